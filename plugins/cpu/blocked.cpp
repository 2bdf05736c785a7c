// The work of one operator on blocks of channels.
//
// A unit is what is never cut further: a block of channels, or a segment of one. Where it is cut depends on HW alone.
// Some units make a task of a sample. Threads go from sample to sample, each from another one on, and do what they find
// there:
//
//     measure   moments of a task's units
//     project   LN of the sample, by whoever measured the last task; the others wait for that
//     apply     y of a task's units, first those that the same thread has measured last
//
// In one go over the threads, for waking them costs more than all else in a small layer. Tasks are claimed as threads
// come by, so nothing waits for a thread that never came, and whoever is waited for is at work. With as many samples as
// threads nobody waits for anybody until the last samples are shared.
#include "cpu/blocked.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <thread>

#include "core/blocked.h"
#include "cpu/half.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sn_deploy::cpu {
namespace {

constexpr std::int64_t kSegment = 1024;            // positions
constexpr std::int64_t kSmallestTask = 8 * 1024;   // values
constexpr std::int64_t kLargestTask = 64 * 1024;   // values
constexpr std::int64_t kTasks = 32;                // of a sample, where that makes tasks of a good size
constexpr std::int64_t kThreadValues = 48 * 1024;  // a thread is woken for at least so many
constexpr std::int64_t kMostParticipants = 1024;
constexpr std::int64_t kCachedValues = 1024 * 1024;   // of all samples: the threads' own caches hold about so many
constexpr std::int64_t kWaveBytes = 2 * 1024 * 1024;  // of workspace
constexpr std::int64_t kMixed = 128;                  // channels whose constants are made at a time, on the stack

struct Cut {
  std::int64_t block;
  std::int64_t positions;
  std::int64_t blocks;    // of channels, in a sample
  std::int64_t segments;  // of a block
  std::int64_t units;     // of a sample
  std::int64_t units_in_task;
  std::int64_t tasks;            // of a sample
  std::int64_t samples_in_wave;  // at most

  Cut(const Problem& problem, std::int64_t block_size)
      : block(block_size),
        positions(problem.spatial),
        blocks(divide_up(problem.channels, block)),
        segments(divide_up(positions, kSegment)),
        units(blocks * segments) {
    const std::int64_t unit_values = std::min(positions, kSegment) * block;
    const std::int64_t task_values = std::clamp(units * unit_values / kTasks, kSmallestTask, kLargestTask);
    units_in_task = std::max<std::int64_t>(1, task_values / unit_values);
    tasks = divide_up(units, units_in_task);
    samples_in_wave =
        std::clamp<std::int64_t>(kWaveBytes / sample_bytes(), 1, std::max<std::int64_t>(problem.batch, 1));
  }

  std::int64_t stored_channels() const { return blocks * block; }
  std::int64_t values() const { return stored_channels() * positions; }  // of a sample
  std::int64_t start_of(std::int64_t segment) const { return segment * kSegment; }
  std::int64_t length_of(std::int64_t segment) const { return std::min(kSegment, positions - start_of(segment)); }

  // The workspace of a sample: mean and M2 of each channel, and of each channel's segments; LN; what is claimed.
  std::int64_t sample_doubles() const {
    const std::int64_t partial = segments == 1 ? 0 : units * block;
    return 2 * stored_channels() + 2 * partial;
  }
  std::int64_t claims_bytes() const { return divide_up(2 * tasks, 8) * 8; }
  std::int64_t sample_bytes() const;
};

struct Progress {
  std::atomic<std::int64_t> measured;  // tasks
  std::atomic<std::int64_t> applied;   // tasks that somebody does or has done
  std::atomic<std::int64_t> projected;
  Statistics<double> layer;
};

using Claim = std::atomic<std::uint8_t>;
static_assert(sizeof(Claim) == 1 && Claim::is_always_lock_free && alignof(Progress) == 8);

std::int64_t Cut::sample_bytes() const {
  return static_cast<std::int64_t>(sizeof(Progress)) + sample_doubles() * 8 + claims_bytes();
}

// The workspace of one sample.
struct Sample {
  Progress* progress;
  double* mean;  // (stored channels), and so is m2
  double* m2;    // the variance, once projected
  double* unit_mean;
  double* unit_m2;
  Claim* measure;  // (tasks)
  Claim* apply;
};

struct Wave {
  const Problem& problem;
  const Cut cut;
  const Kernels& kernels;
  const BlockedKernels& blocked;
  const MixWeights<double> weights;
  const Epilogue epilogue;
  const Tensors& tensors;
  char* workspace;
  std::int64_t first_sample = 0;
  std::int64_t samples = 0;
  std::int64_t participants = 0;

  Sample sample(std::int64_t i) const {
    char* base = workspace + i * cut.sample_bytes();
    double* doubles = reinterpret_cast<double*>(base + sizeof(Progress));
    Sample s;
    s.progress = reinterpret_cast<Progress*>(base);
    s.mean = doubles;
    s.m2 = s.mean + cut.stored_channels();
    s.unit_mean = s.m2 + cut.stored_channels();
    s.unit_m2 = s.unit_mean + cut.units * cut.block;
    s.measure = reinterpret_cast<Claim*>(doubles + cut.sample_doubles());
    s.apply = s.measure + cut.tasks;
    return s;
  }
  // The k-th task from `start` on; past the last comes the first.
  std::int64_t nth_task(std::int64_t start, std::int64_t k) const {
    return start + k < cut.tasks ? start + k : start + k - cut.tasks;
  }
  std::int64_t end_of(std::int64_t task) const { return std::min(cut.units, (task + 1) * cut.units_in_task); }
  // Where a unit's values begin in X, the residual and Y.
  std::int64_t offset_of(std::int64_t sample, std::int64_t unit) const {
    const std::int64_t block = (first_sample + sample) * cut.blocks + unit / cut.segments;
    return (block * cut.positions + cut.start_of(unit % cut.segments)) * cut.block;
  }
};

// --- Measure, project, apply --------------------------------------------------------------------------------------

void measure(const Wave& wave, std::int64_t i, std::int64_t task) {
  const Sample sample = wave.sample(i);
  const bool whole = wave.cut.segments == 1;
  double* mean = whole ? sample.mean : sample.unit_mean;
  double* m2 = whole ? sample.m2 : sample.unit_m2;
  for (std::int64_t unit = task * wave.cut.units_in_task; unit < wave.end_of(task); ++unit) {
    const float* x = static_cast<const float*>(wave.tensors.x) + wave.offset_of(i, unit);
    const std::int64_t at = unit * wave.cut.block;
    wave.blocked.moments(x, wave.cut.length_of(unit % wave.cut.segments), mean + at, m2 + at);
  }
}

void merge_segments(const Wave& wave, const Sample& sample) {
  for (std::int64_t channel = 0; channel < wave.problem.channels; ++channel) {
    const std::int64_t first = channel / wave.cut.block * wave.cut.segments * wave.cut.block + channel % wave.cut.block;
    Moments<double> merged = no_moments<double>();
    for (std::int64_t segment = 0; segment < wave.cut.segments; ++segment) {
      const std::int64_t at = first + segment * wave.cut.block;
      const auto count = static_cast<double>(wave.cut.length_of(segment));
      merged = merge(merged, Moments<double>{count, sample.unit_mean[at], sample.unit_m2[at]});
    }
    sample.mean[channel] = merged.mean;
    sample.m2[channel] = merged.m2;
  }
}

void project(const Wave& wave, std::int64_t i) {
  const Sample sample = wave.sample(i);
  if (wave.cut.segments > 1) merge_segments(wave, sample);
  const auto divisor = static_cast<double>(wave.problem.count() - wave.problem.ddof);
  sample.progress->layer = wave.kernels.layer(sample.mean, sample.m2, wave.problem.channels, divisor);
}

// What takes the place of statistics that don't count: the sample is measured and projected. The first one's are there
// for all samples of the wave.
void centre_on_the_mean(const Wave& wave, std::int64_t i) {
  const Sample sample = wave.sample(i);
  for (std::int64_t channel = 0; channel < wave.problem.channels && i == 0; ++channel) {
    sample.mean[channel] = static_cast<double>(read_from(wave.tensors.mean_offset + channel));
    sample.m2[channel] = 0.0;
  }
  for (std::int64_t task = 0; task < wave.cut.tasks; ++task) sample.measure[task].store(1, std::memory_order_relaxed);
  sample.progress->projected.store(1, std::memory_order_release);
}

void apply(const Wave& wave, std::int64_t i, std::int64_t task) {
  const Sample sample = wave.sample(takes_statistics(wave.weights) ? i : 0);
  const Cut& cut = wave.cut;
  const auto kernel = wave.blocked.apply[static_cast<int>(wave.epilogue)];
  float centre[kMixed];
  float scale[kMixed];
  float shift[kMixed];
  std::int64_t begin = 0;  // of the channels whose constants are there
  std::int64_t end = 0;
  for (std::int64_t unit = task * cut.units_in_task; unit < wave.end_of(task); ++unit) {
    const std::int64_t channel = unit / cut.segments * cut.block;
    if (channel >= end) {
      const std::int64_t last = (wave.end_of(task) - 1) / cut.segments * cut.block + cut.block;
      begin = channel;
      end = std::min(begin + kMixed, last);
      const ChannelArrays channels{sample.mean + begin,
                                   sample.m2 + begin,
                                   wave.tensors.scale + begin,
                                   wave.tensors.bias + begin,
                                   wave.tensors.mean_offset + begin,
                                   wave.tensors.var_offset + begin};
      const std::int64_t real = std::min(end, wave.problem.channels) - begin;
      wave.kernels.mix(wave.weights, sample.progress->layer, channels, real, {centre, scale, shift});
    }
    const std::int64_t offset = wave.offset_of(i, unit);
    const void* residual = wave.tensors.residual;
    const BlockedRows rows{static_cast<const float*>(wave.tensors.x) + offset,
                           residual == nullptr ? nullptr : static_cast<const float*>(residual) + offset,
                           static_cast<float*>(wave.tensors.y) + offset, cut.length_of(unit % cut.segments),
                           std::min(cut.block, wave.problem.channels - channel)};
    const std::int64_t at = channel - begin;
    kernel(rows, {centre + at, scale + at, shift + at});
  }
}

// --- Threads ------------------------------------------------------------------------------------------------------

bool claim(Claim& of) {
  return of.load(std::memory_order_relaxed) == 0 && of.exchange(1, std::memory_order_relaxed) == 0;
}

void wait_for(const std::atomic<std::int64_t>& flag) {
  for (int spins = 0; flag.load(std::memory_order_acquire) == 0; ++spins) {
    if (spins < 2000) {
#if defined(__x86_64__)
      _mm_pause();
#endif
    } else {
      std::this_thread::yield();  // more threads than processors: whom we wait for may need ours
    }
  }
}

// From `start` on. Returns the number, in this order, of the last task that was measured here; -1 if there was none.
std::int64_t measure_free_tasks(const Wave& wave, std::int64_t i, std::int64_t start) {
  const Sample sample = wave.sample(i);
  std::int64_t last = -1;
  for (std::int64_t k = 0; k < wave.cut.tasks; ++k) {
    const std::int64_t task = wave.nth_task(start, k);
    if (!claim(sample.measure[task])) continue;
    measure(wave, i, task);
    last = k;
    if (sample.progress->measured.fetch_add(1, std::memory_order_acq_rel) + 1 == wave.cut.tasks) {
      project(wave, i);
      sample.progress->projected.store(1, std::memory_order_release);
    }
  }
  return last;
}

void apply_free_tasks(const Wave& wave, std::int64_t i, std::int64_t start, std::int64_t last) {
  const Sample sample = wave.sample(i);
  const auto apply_if_free = [&](std::int64_t k) {
    const std::int64_t task = wave.nth_task(start, k);
    if (!claim(sample.apply[task])) return;
    sample.progress->applied.fetch_add(1, std::memory_order_relaxed);
    apply(wave, i, task);
  };
  for (std::int64_t k = last; k >= 0; --k) apply_if_free(k);
  for (std::int64_t k = last + 1; k < wave.cut.tasks; ++k) apply_if_free(k);
}

// Participants begin evenly apart. Of a small input each begins where the thread that came with it wrote, if the
// convolution before was shared out in the same way; of a large one with the sample that was written last, which is
// still in a cache when the others no longer are.
void participate(const Wave& wave, std::size_t participant) {
  const std::int64_t all = wave.samples * wave.cut.tasks;
  const std::int64_t begin = static_cast<std::int64_t>(participant) * all / wave.participants;
  const std::int64_t first = begin / wave.cut.tasks;
  const std::int64_t start = begin % wave.cut.tasks;
  const bool backwards = wave.samples * wave.cut.values() > kCachedValues;
  for (std::int64_t k = 0; k < wave.samples; ++k) {
    const std::int64_t ahead = (first + k) % wave.samples;
    const std::int64_t i = backwards ? wave.samples - 1 - ahead : ahead;
    const Progress& progress = *wave.sample(i).progress;
    if (progress.applied.load(std::memory_order_relaxed) == wave.cut.tasks) continue;
    const std::int64_t last = measure_free_tasks(wave, i, start);
    wait_for(progress.projected);
    apply_free_tasks(wave, i, start, last);
  }
}

bool run(Wave* wave, const Parallel& parallel) {
  for (std::int64_t i = 0; i < wave->samples; ++i) {
    const Sample sample = wave->sample(i);
    new (sample.progress) Progress{};
    for (std::int64_t task = 0; task < 2 * wave->cut.tasks; ++task) new (sample.measure + task) Claim(0);
    if (!takes_statistics(wave->weights)) centre_on_the_mean(*wave, i);
  }
  const std::int64_t most = std::min(kMostParticipants, wave->samples * wave->cut.tasks);
  wave->participants = std::clamp<std::int64_t>(wave->samples * wave->cut.values() / kThreadValues, 1, most);
  const auto task = [](void* own, std::size_t participant) {
    participate(*static_cast<const Wave*>(own), participant);
  };
  const Parallel& used = wave->participants == 1 ? no_threads() : parallel;
  return used.run(used.pool, task, wave, static_cast<std::size_t>(wave->participants));
}

}  // namespace

std::int64_t blocked_workspace_bytes(const Problem& problem, std::int64_t block) {
  if (check_blocked(problem, block) != Status::kOk || problem.batch == 0) return 0;
  const Cut cut(problem, block);
  return cut.samples_in_wave * cut.sample_bytes();
}

Status switch_norm_blocked_with(const Kernels& kernels, const Problem& problem, std::int64_t block,
                                const Weights& weights, Epilogue epilogue, const Tensors& tensors, void* workspace,
                                std::int64_t workspace_size, const Parallel& parallel) {
  Status status = check_blocked(problem, block);
  if (status == Status::kOk) {
    status = check_weights(weights.mean_in, weights.mean_ln, weights.var_in, weights.var_ln);
  }
  if (status != Status::kOk || problem.batch == 0) return status;
  status = check_tensors(epilogue, tensors);
  if (status != Status::kOk) return status;
  if (workspace == nullptr || workspace_size < blocked_workspace_bytes(problem, block)) return Status::kWorkspace;
  if (reinterpret_cast<std::uintptr_t>(workspace) % sizeof(double) != 0) return Status::kMisaligned;
  const BlockedKernels& blocked = kernels.blocked[block == 8 ? 0 : 1];
  if (blocked.moments == nullptr) return Status::kArgument;

  const Cut cut(problem, block);
  Wave wave{problem,
            cut,
            kernels,
            blocked,
            mix_weights<double>(weights.mean_in, weights.mean_ln, weights.var_in, weights.var_ln, true),
            epilogue,
            tensors,
            static_cast<char*>(workspace)};
  // Like the samples of a wave, the last first.
  for (std::int64_t left = problem.batch; left > 0; left -= wave.samples) {
    wave.samples = std::min(cut.samples_in_wave, left);
    wave.first_sample = left - wave.samples;
    if (!run(&wave, parallel)) return Status::kThreads;
  }
  return Status::kOk;
}

Status switch_norm_blocked(const Problem& problem, std::int64_t block, const Weights& weights, Epilogue epilogue,
                           const Tensors& tensors, void* workspace, std::int64_t workspace_size,
                           const Parallel& parallel) {
  return switch_norm_blocked_with(best_kernels(block), problem, block, weights, epilogue, tensors, workspace,
                                  workspace_size, parallel);
}

}  // namespace sn_deploy::cpu
