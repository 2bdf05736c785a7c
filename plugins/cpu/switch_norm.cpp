// The work of one operator: waves of samples, each in three steps.
//
//     measure   moments of every row                     in parallel
//     project   LN of a sample, by whoever measured the last of its rows
//     apply     constants of every row, and y            in parallel
//
// Where no statistic has a weight the first two are left out.
//
// A row is the HW values of a channel, or of rank 2 the C values of a sample. Long rows are cut into segments, whose
// moments merge in their order. Where a row or segment is cut depends on its length alone, and nothing on the threads.
#include "cpu/switch_norm.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

#include "cpu/half.h"
#include "cpu/kernels.h"

namespace sn_deploy::cpu {
namespace {

constexpr std::int64_t kSegment = 16 * 1024;       // values
constexpr std::int64_t kTaskValues = 16 * 1024;    // some 5 microseconds, a few times what a thread costs to wake
constexpr std::int64_t kWaveValues = 1024 * 1024;  // what apply still finds in a cache when measure has read it
constexpr std::int64_t kWaveRows = 64 * 1024;      // so that tiny rows need no huge workspace
constexpr std::int64_t kMixedRows = 128;           // constants made at a time, on the stack

struct Cut {
  std::int64_t rows_per_sample;
  std::int64_t row_length;
  std::int64_t segments;         // of a row
  std::int64_t samples_in_wave;  // at most

  explicit Cut(const Problem& problem)
      : rows_per_sample(problem.has_in ? problem.channels : 1),
        row_length(problem.has_in ? problem.spatial : problem.channels),
        segments(divide_up(row_length, kSegment)) {
    const std::int64_t by_values = kWaveValues / (rows_per_sample * row_length);
    const std::int64_t by_rows = kWaveRows / rows_per_sample;
    samples_in_wave =
        std::clamp<std::int64_t>(std::min(by_values, by_rows), 1, std::max<std::int64_t>(problem.batch, 1));
  }

  // A unit is what is never cut further: a row, or a segment of one.
  std::int64_t units_of(std::int64_t samples) const { return samples * rows_per_sample * segments; }
  std::int64_t units_in_task() const { return std::max<std::int64_t>(1, kTaskValues / std::min(row_length, kSegment)); }
  std::int64_t start_of(std::int64_t segment) const { return segment * kSegment; }
  std::int64_t length_of(std::int64_t segment) const { return std::min(kSegment, row_length - start_of(segment)); }
};

// The workspace of a wave, in doubles.
struct Memory {
  std::int64_t row_mean, row_m2, unit_mean, unit_m2, layer, measured, total;

  explicit Memory(const Cut& cut) {
    const std::int64_t rows = cut.samples_in_wave * cut.rows_per_sample;
    const std::int64_t units = cut.segments == 1 ? 0 : cut.units_of(cut.samples_in_wave);
    row_mean = 0;
    row_m2 = row_mean + rows;
    unit_mean = row_m2 + rows;
    unit_m2 = unit_mean + units;
    layer = unit_m2 + units;
    measured = layer + 2 * cut.samples_in_wave;
    total = measured + cut.samples_in_wave;
  }
};

using Count = std::atomic<std::int64_t>;
static_assert(sizeof(Count) == 8 && alignof(Count) <= 8 && Count::is_always_lock_free);

struct Wave {
  const Problem& problem;
  const Cut cut;
  const Kernels& kernels;
  const MixWeights<double> weights;
  const Epilogue epilogue;
  const Tensors& tensors;
  double* row_mean;
  double* row_m2;  // and the variance, once projected
  double* unit_mean;
  double* unit_m2;
  double* layer;    // mean and variance of each sample
  Count* measured;  // units of each sample
  std::int64_t first_sample = 0;
  std::int64_t samples = 0;

  std::int64_t type() const { return static_cast<std::int64_t>(problem.type); }

  // Where a unit's values begin in X, the residual and Y.
  std::int64_t offset_of(std::int64_t unit) const {
    const std::int64_t row = first_sample * cut.rows_per_sample + unit / cut.segments;
    return row * cut.row_length + cut.start_of(unit % cut.segments);
  }
  const void* at(const void* tensor, std::int64_t offset) const {
    return tensor == nullptr ? nullptr : static_cast<const char*>(tensor) + offset * bytes_of(problem.type);
  }
  Rows rows_at(std::int64_t offset, std::int64_t rows, std::int64_t length) const {
    void* y = static_cast<char*>(tensors.y) + offset * bytes_of(problem.type);
    return {at(tensors.x, offset), at(tensors.residual, offset), y, rows, length};
  }
  ChannelArrays channels_at(std::int64_t row, std::int64_t channel) const {
    const std::int64_t own = takes_statistics(weights) ? row : row % cut.rows_per_sample;
    return {row_mean + own,
            row_m2 + own,
            tensors.scale + channel,
            tensors.bias + channel,
            tensors.mean_offset + channel,
            tensors.var_offset + channel};
  }
  Statistics<double> layer_of(std::int64_t sample) const { return {layer[2 * sample], layer[2 * sample + 1]}; }
};

// --- Measure ------------------------------------------------------------------------------------------------------

void measure_units(const Wave& wave, std::int64_t begin, std::int64_t end) {
  const auto moments = wave.kernels.moments[wave.type()];
  if (wave.cut.segments == 1) {
    const void* x = wave.at(wave.tensors.x, wave.offset_of(begin));
    moments(x, end - begin, wave.cut.row_length, wave.row_mean + begin, wave.row_m2 + begin);
    return;
  }
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const void* x = wave.at(wave.tensors.x, wave.offset_of(unit));
    moments(x, 1, wave.cut.length_of(unit % wave.cut.segments), wave.unit_mean + unit, wave.unit_m2 + unit);
  }
}

// --- Project ------------------------------------------------------------------------------------------------------

void merge_segments(const Wave& wave, std::int64_t row) {
  Moments<double> merged = no_moments<double>();
  for (std::int64_t segment = 0; segment < wave.cut.segments; ++segment) {
    const std::int64_t unit = row * wave.cut.segments + segment;
    const auto count = static_cast<double>(wave.cut.length_of(segment));
    merged = merge(merged, Moments<double>{count, wave.unit_mean[unit], wave.unit_m2[unit]});
  }
  wave.row_mean[row] = merged.mean;
  wave.row_m2[row] = merged.m2;
}

void project(const Wave& wave, std::int64_t sample) {
  const Problem& problem = wave.problem;
  const std::int64_t rows = wave.cut.rows_per_sample;
  const auto divisor = static_cast<double>(problem.count() - problem.ddof);
  for (std::int64_t row = 0; row < rows && wave.cut.segments > 1; ++row) merge_segments(wave, sample * rows + row);
  double* mean = wave.row_mean + sample * rows;
  double* m2 = wave.row_m2 + sample * rows;
  const auto count = static_cast<double>(wave.cut.row_length);
  const Statistics<double> ln = problem.has_in ? wave.kernels.layer(mean, m2, rows, divisor)
                                               : row_statistics(Moments<double>{count, *mean, *m2}, divisor);
  wave.layer[2 * sample] = ln.mean;
  wave.layer[2 * sample + 1] = ln.var;
}

// Of tiny samples it is as much work as the other steps, so it must not wait for one thread.
void measure(const Wave& wave, std::int64_t begin, std::int64_t end) {
  measure_units(wave, begin, end);
  const std::int64_t units = wave.cut.units_of(1);
  for (std::int64_t sample = begin / units; sample * units < end; ++sample) {
    const std::int64_t own = std::min(end, (sample + 1) * units) - std::max(begin, sample * units);
    if (own == units || wave.measured[sample].fetch_add(own, std::memory_order_acq_rel) + own == units) {
      project(wave, sample);
    }
  }
}

// What takes the place of statistics that don't count: the same rows for all samples of all waves.
void centre_on_the_mean(const Wave& wave) {
  for (std::int64_t row = 0; row < wave.cut.rows_per_sample; ++row) {
    wave.row_mean[row] = wave.problem.has_in ? static_cast<double>(read_from(wave.tensors.mean_offset + row)) : 0.0;
    wave.row_m2[row] = 0.0;
  }
  std::fill_n(wave.layer, 2 * wave.cut.samples_in_wave, 0.0);
}

// --- Apply --------------------------------------------------------------------------------------------------------

struct MixedRows {
  float centre[kMixedRows];
  float scale[kMixedRows];
  float shift[kMixedRows];

  AffineArrays arrays() { return {centre, scale, shift}; }
};

// Whole rows, of one sample at a time.
void apply_to_rows(const Wave& wave, std::int64_t begin, std::int64_t end) {
  const auto apply = wave.kernels.apply[wave.type()][static_cast<int>(wave.epilogue)];
  MixedRows mixed;
  while (begin < end) {
    const std::int64_t sample = begin / wave.cut.rows_per_sample;
    const std::int64_t channel = begin % wave.cut.rows_per_sample;
    const std::int64_t count = std::min({end - begin, kMixedRows, wave.cut.rows_per_sample - channel});
    wave.kernels.mix(wave.weights, wave.layer_of(sample), wave.channels_at(begin, channel), count, mixed.arrays());
    apply(wave.rows_at(wave.offset_of(begin), count, wave.cut.row_length), mixed.arrays());
    begin += count;
  }
}

void apply_to_segments(const Wave& wave, std::int64_t begin, std::int64_t end) {
  const auto apply = wave.kernels.apply[wave.type()][static_cast<int>(wave.epilogue)];
  MixedRows mixed;
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t row = unit / wave.cut.segments;
    const Statistics<double> ln = wave.layer_of(row / wave.cut.rows_per_sample);
    wave.kernels.mix(wave.weights, ln, wave.channels_at(row, row % wave.cut.rows_per_sample), 1, mixed.arrays());
    apply(wave.rows_at(wave.offset_of(unit), 1, wave.cut.length_of(unit % wave.cut.segments)), mixed.arrays());
  }
}

// Rank 2: the values of a row are its channels.
void apply_to_values(const Wave& wave, std::int64_t begin, std::int64_t end) {
  const auto apply = wave.kernels.apply_row[wave.type()][static_cast<int>(wave.epilogue)];
  MixedRows mixed;
  for (std::int64_t unit = begin; unit < end; ++unit) {
    const std::int64_t row = unit / wave.cut.segments;
    const std::int64_t segment = unit % wave.cut.segments;
    for (std::int64_t i = 0; i < wave.cut.length_of(segment); i += kMixedRows) {
      const std::int64_t count = std::min(kMixedRows, wave.cut.length_of(segment) - i);
      const ChannelArrays channels = wave.channels_at(row, wave.cut.start_of(segment) + i);
      wave.kernels.mix_row(wave.weights, wave.layer_of(row), channels, count, mixed.arrays());
      apply(wave.rows_at(wave.offset_of(unit) + i, 1, count), mixed.arrays());
    }
  }
}

void apply(const Wave& wave, std::int64_t begin, std::int64_t end) {
  if (!wave.problem.has_in) {
    apply_to_values(wave, begin, end);
  } else if (wave.cut.segments == 1) {
    apply_to_rows(wave, begin, end);
  } else {
    apply_to_segments(wave, begin, end);
  }
}

// --- All of it ----------------------------------------------------------------------------------------------------

using Step = void (*)(const Wave& wave, std::int64_t begin, std::int64_t end);

bool spread(const Wave& wave, Step step, const Parallel& parallel) {
  struct Context {
    const Wave& wave;
    Step step;
    std::int64_t units;
    std::int64_t in_task;
  } context{wave, step, wave.cut.units_of(wave.samples), wave.cut.units_in_task()};
  const auto task = [](void* pointer, std::size_t i) {
    const Context& own = *static_cast<const Context*>(pointer);
    const std::int64_t begin = static_cast<std::int64_t>(i) * own.in_task;
    own.step(own.wave, begin, std::min(own.units, begin + own.in_task));
  };
  const std::int64_t tasks = divide_up(context.units, context.in_task);
  const Parallel& used = tasks == 1 ? no_threads() : parallel;
  return used.run(used.pool, task, &context, static_cast<std::size_t>(tasks));
}

}  // namespace

Status check_tensors(Epilogue epilogue, const Tensors& tensors) {
  const bool adds = epilogue == Epilogue::kAddRelu;
  for (const void* each : {tensors.x, static_cast<const void*>(tensors.y), adds ? tensors.residual : tensors.x}) {
    if (each == nullptr) return Status::kNullPointer;
  }
  for (const float* each : {tensors.scale, tensors.bias, tensors.mean_offset, tensors.var_offset}) {
    if (each == nullptr) return Status::kNullPointer;
  }
  return Status::kOk;
}

Parallel no_threads() {
  const auto run = [](void*, void (*task)(void*, std::size_t), void* context, std::size_t tasks) {
    for (std::size_t i = 0; i < tasks; ++i) task(context, i);
    return true;
  };
  return {run, nullptr};
}

std::int64_t workspace_bytes(const Problem& problem) {
  // Of an empty batch the other extents may be anything.
  return check(problem) == Status::kOk && problem.batch > 0 ? Memory(Cut(problem)).total * 8 : 0;
}

Status switch_norm_with(const Kernels& kernels, const Problem& problem, const Weights& weights, Epilogue epilogue,
                        const Tensors& tensors, void* workspace, std::int64_t workspace_size,
                        const Parallel& parallel) {
  Status status = check(problem);
  if (status == Status::kOk) {
    status = check_weights(weights.mean_in, weights.mean_ln, weights.var_in, weights.var_ln);
  }
  if (status != Status::kOk || problem.batch == 0) return status;
  status = check_tensors(epilogue, tensors);
  if (status != Status::kOk) return status;
  if (workspace == nullptr || workspace_size < workspace_bytes(problem)) return Status::kWorkspace;
  if (reinterpret_cast<std::uintptr_t>(workspace) % sizeof(double) != 0) return Status::kMisaligned;

  const Cut cut(problem);
  const Memory memory(cut);
  double* base = static_cast<double*>(workspace);
  Wave wave{problem,
            cut,
            kernels,
            mix_weights<double>(weights.mean_in, weights.mean_ln, weights.var_in, weights.var_ln, problem.has_in),
            epilogue,
            tensors,
            base + memory.row_mean,
            base + memory.row_m2,
            base + memory.unit_mean,
            base + memory.unit_m2,
            base + memory.layer,
            reinterpret_cast<Count*>(base + memory.measured)};
  if (!takes_statistics(wave.weights)) centre_on_the_mean(wave);
  for (; wave.first_sample < problem.batch; wave.first_sample += wave.samples) {
    wave.samples = std::min(cut.samples_in_wave, problem.batch - wave.first_sample);
    if (takes_statistics(wave.weights)) {
      for (std::int64_t sample = 0; sample < wave.samples; ++sample) new (wave.measured + sample) Count(0);
      if (!spread(wave, &measure, parallel)) return Status::kThreads;
    }
    if (!spread(wave, &apply, parallel)) return Status::kThreads;
  }
  return Status::kOk;
}

Status switch_norm(const Problem& problem, const Weights& weights, Epilogue epilogue, const Tensors& tensors,
                   void* workspace, std::int64_t workspace_size, const Parallel& parallel) {
  return switch_norm_with(best_kernels(), problem, weights, epilogue, tensors, workspace, workspace_size, parallel);
}

}  // namespace sn_deploy::cpu
