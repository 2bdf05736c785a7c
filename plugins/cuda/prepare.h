// From a request to what is launched, as plain host arithmetic: everything but the calls to CUDA.
#pragma once

#include "core/plan.h"
#include "cuda/kernels/arguments.h"
#include "cuda/tactic.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda {

// A device with more multiprocessors leaves some idle in cooperative launches; the workspace is planned for no more.
inline constexpr std::int32_t kMostMultiprocessors = 256;

// Whatever a device may offer: what a workspace has to be large enough for.
inline DeviceLimits widest_limits() {
  constexpr std::int64_t kMostSharedBytes = 256 * 1024;
  constexpr std::int32_t kMostCluster = 16;
  return {kMostMultiprocessors, kMostSharedBytes, kMostCluster, true};
}

struct Request {
  Problem problem;
  Storage storage;
};

// Checks a problem that came through the C interface.
inline Status request_from_c(const SnCudaProblem* from, bool aligned, Request* request) {
  if (from == nullptr) return Status::kNullPointer;
  if (from->data_type < 0 || from->data_type > static_cast<std::int32_t>(DataType::kBfloat16)) return Status::kDataType;
  const bool flags = (from->layout == 0 || from->layout == 1) && (from->has_in == 0 || from->has_in == 1) &&
                     from->epilogue >= 0 && from->epilogue <= static_cast<std::int32_t>(Epilogue::kAddRelu);
  if (!flags) return Status::kArgument;
  request->problem = {from->batch,       from->channels, from->spatial,
                      from->has_in != 0, from->ddof,     static_cast<DataType>(from->data_type)};
  request->storage = {static_cast<Layout>(from->layout), from->stored_channels, aligned};
  const Status status = check(request->problem);
  if (status != Status::kOk) return status;
  return check_weights(from->mean_in, from->mean_ln, from->var_in, from->var_ln);
}

enum class KernelKind { kFused, kStatistics, kNormalize, kRow, kZero, kQueue };

// One kernel launch.
struct Launch {
  KernelKind kind;
  DataType type;
  Layout layout;
  bool vector;    // accesses of 16 bytes, or single elements
  bool resident;  // the slice stays in shared memory
  Arguments arguments;
  std::int64_t grid;
  std::int32_t threads;
  std::int64_t shared_bytes;
  std::int32_t cluster;       // blocks of a cluster, or 1
  bool cooperative;           // all blocks must be resident at once
  std::int64_t zeroed_bytes;  // of the workspace's beginning, before the launch
};

struct Launches {
  Launch list[2];
  int count;
};

namespace detail {

inline Arguments arguments_of(const Request& request, const SnCudaProblem& problem, const SnCudaTensors& tensors,
                              const Plan& plan, void* workspace) {
  Arguments a = {};
  a.x = tensors.x;
  a.scale = tensors.scale;
  a.bias = tensors.bias;
  a.mean_offset = tensors.mean_offset;
  a.var_offset = tensors.var_offset;
  a.residual = static_cast<Epilogue>(problem.epilogue) == Epilogue::kAddRelu ? tensors.residual : nullptr;
  a.y = tensors.y;
  a.workspace = static_cast<unsigned char*>(workspace);
  a.batch = request.problem.batch;
  a.channels = request.problem.channels;
  a.spatial = request.problem.spatial;
  a.stored_channels = request.storage.stored_channels;
  a.blocks_per_sample = plan.blocks_per_sample;
  a.groups = plan.groups;
  a.channels_per_block = plan.channels_per_block;
  a.spatial_per_block = plan.spatial_per_block;
  a.plane_floats = plan.plane_floats;
  a.scratch_offset = plan.constants_bytes;
  a.fold_offset = a.scratch_offset + kScratchBytes;
  a.slice_offset = a.fold_offset + plan.fold_bytes;
  a.weights =
      mix_weights<float>(problem.mean_in, problem.mean_ln, problem.var_in, problem.var_ln, request.problem.has_in);
  a.in_divisor = static_cast<float>(request.problem.count() - request.problem.ddof);
  while ((std::int64_t{1} << a.blocks_log2) < plan.blocks_per_sample) ++a.blocks_log2;
  a.tactic = static_cast<std::int32_t>(plan.tactic);
  a.split = static_cast<std::int32_t>(plan.split);
  a.epilogue = problem.epilogue;
  return a;
}

// Cuts a sample into about so many slices to apply. Results don't depend on it.
inline void slice_apply(const Request& request, const Plan& plan, std::int64_t slices, Arguments* a) {
  constexpr std::int64_t kMostChannels = 2048;     // whose affine maps are in shared memory
  constexpr std::int64_t kMostChannelsLast = 256;  // in half types 512 bytes in a row, a warp's access
  const Problem& problem = request.problem;
  if (request.storage.layout == Layout::kLinear) {
    a->apply_channels = std::min(divide_up(problem.channels, slices), kMostChannels);
  } else {
    a->apply_channels = std::min(problem.channels, kMostChannelsLast);
  }
  const std::int64_t along = std::max<std::int64_t>(slices / divide_up(problem.channels, a->apply_channels), 1);
  const std::int64_t positions = divide_up(problem.spatial, along);
  a->apply_spatial = divide_up(positions, plan.vector_elements) * plan.vector_elements;
  a->apply_across = divide_up(problem.channels, a->apply_channels);
  a->apply_along = divide_up(problem.spatial, a->apply_spatial);
}

// How the second kernel slices a sample: two blocks for each multiprocessor, but no slice below 8 KiB, as each block
// merges the moments of all channels, nor above 64 KiB, so that some blocks load while others store.
inline void slice_normalize(const Request& request, const Plan& plan, std::int32_t multiprocessors, Arguments* a) {
  constexpr std::int64_t kLeastBytes = 8 * 1024;
  constexpr std::int64_t kMostBytes = 64 * 1024;
  const Problem& problem = request.problem;
  const std::int64_t bytes = problem.channels * problem.spatial * bytes_of(problem.type);
  const std::int64_t wanted = divide_up(2 * std::int64_t{multiprocessors}, std::max<std::int64_t>(problem.batch, 1));
  const std::int64_t most = std::max(std::min(wanted, bytes / kLeastBytes), bytes / kMostBytes);
  slice_apply(request, plan, std::clamp<std::int64_t>(most, 1, kMaxGridBlocks), a);
}

// A queue's items, and its workspace.
inline void lay_out_queue(const Request& request, const Plan& plan, std::int32_t multiprocessors,
                          Arguments* arguments) {
  Arguments& a = *arguments;
  const Problem& problem = request.problem;
  const std::int64_t bytes = elements_of_sample(problem, request.storage) * bytes_of(problem.type);
  slice_apply(request, plan, divide_up(bytes, queue_sizes(plan.tactic).apply), &a);
  a.apply_items = a.apply_across * a.apply_along;
  a.collect_items = plan.blocks_per_sample * a.across;
  a.lead = queue_lead(problem, request.storage, multiprocessors, plan.ahead);
  QueueRoom room = {};
  static_cast<void>(queue_room(problem, plan.blocks_per_sample, &room));  // the plan has seen that it can be counted
  a.moments_offset = room.moments;
  a.lines_offset = room.lines;
  a.line_stride = divide_up(problem.channels, kVectorElements) * kVectorElements;
  a.zeroed_words = static_cast<std::int32_t>(room.zeroed_bytes / 4);  // of fewer places than 32 bits count
  a.merges_near = a.line_stride * kQueueLineFloats * 4 <= plan.slice_bytes ? 1 : 0;
}

// The second kernel's shared memory: the affine maps, scratch and folds, and the moments of a sample's parts, where
// with them all is still below what any device has.
inline std::int64_t lay_out_normalize(const Plan& plan, Arguments* a) {
  a->keeps_moments = a->channels * plan.blocks_per_sample <= kMergedMoments ? 1 : 0;
  const std::int64_t channels = a->keeps_moments != 0 ? a->channels : a->apply_channels;
  a->plane_floats = divide_up(channels, kVectorElements) * kVectorElements;
  a->scratch_offset = a->plane_floats * floats_per_channel(Split::kChannels) * 4;
  a->fold_offset = a->scratch_offset + kScratchBytes;
  a->slice_offset = a->fold_offset + sn_deploy::detail::fold_bytes(plan);
  const std::int64_t moments = a->channels * plan.blocks_per_sample * kMomentsBytes;
  return a->slice_offset + (a->keeps_moments != 0 ? divide_up(moments, kVectorBytes) * kVectorBytes : 0);
}

}  // namespace detail

// The launches of a plan, in their order; none for an empty batch.
inline Launches prepare(const Request& request, const SnCudaProblem& problem, const SnCudaTensors& tensors,
                        const Plan& plan, std::int32_t multiprocessors, void* workspace) {
  Launches launches = {};
  if (request.problem.batch == 0) return launches;
  Launch launch = {};
  launch.arguments = detail::arguments_of(request, problem, tensors, plan, workspace);
  launch.threads = plan.threads;
  launch.shared_bytes = plan.shared_bytes;
  launch.cluster = 1;
  launch.grid = plan.grid_blocks();
  launch.kind = request.problem.has_in ? KernelKind::kFused : KernelKind::kRow;
  launch.type = request.problem.type;
  launch.layout = request.storage.layout;
  launch.vector = plan.vector_elements > 1;
  launch.resident = plan.resident;
  if (plan.tactic == Tactic::kCluster) launch.cluster = static_cast<std::int32_t>(plan.blocks_per_sample);
  if (plan.tactic == Tactic::kCooperative) {
    launch.cooperative = true;
    launch.zeroed_bytes = plan.groups * kBarrierBytes;
  }
  Arguments& a = launch.arguments;
  a.across = divide_up(a.channels, a.channels_per_block);
  if (is_queue(plan.tactic)) {
    detail::lay_out_queue(request, plan, multiprocessors, &a);
    Launch zero = launch;
    zero.kind = KernelKind::kZero;
    zero.shared_bytes = 0;
    zero.grid = std::min(divide_up(std::int64_t{a.zeroed_words}, 16 * std::int64_t{launch.threads}),
                         std::int64_t{multiprocessors});
    launches.list[launches.count++] = zero;
    launch.kind = KernelKind::kQueue;
    // As many blocks as run at a time, which go on to the queue's end.
    launch.grid = std::min(places_of(a), std::int64_t{kQueueBlocks} * multiprocessors);
  }
  if (plan.tactic != Tactic::kTwoKernels) {
    launches.list[launches.count++] = launch;
    return launches;
  }
  a.items = a.batch * plan.blocks_per_sample * a.across;
  launch.kind = KernelKind::kStatistics;
  launch.grid = std::min(a.items, kMaxGridBlocks);
  launches.list[launches.count++] = launch;
  detail::slice_normalize(request, plan, multiprocessors, &a);
  launch.shared_bytes = detail::lay_out_normalize(plan, &a);
  launch.kind = KernelKind::kNormalize;
  launch.grid = std::min(a.batch * a.apply_across * a.apply_along, kMaxGridBlocks);
  launches.list[launches.count++] = launch;
  return launches;
}

}  // namespace sn_deploy::cuda
