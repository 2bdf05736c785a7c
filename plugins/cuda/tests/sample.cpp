#include "cuda/tests/sample.h"

#include <cmath>
#include <limits>
#include <new>
#include <random>

#include "cuda/kernels/elements.h"
#include "cuda/tests/host_kernels.h"

namespace sn_deploy::cuda::test {
namespace {

// --- Elements by type ---------------------------------------------------------------------------------------------

template <typename T>
void put(void* at, std::int64_t i, double value) {
  static_cast<T*>(at)[i] = from_float<T>(static_cast<float>(value));
}

template <typename T>
double get(const void* at, std::int64_t i) {
  return static_cast<double>(to_float(static_cast<const T*>(at)[i]));
}

void put(DataType type, void* at, std::int64_t i, double value) {
  if (type == DataType::kFloat32) return put<float>(at, i, value);
  if (type == DataType::kFloat16) return put<__half>(at, i, value);
  return put<__nv_bfloat16>(at, i, value);
}

double get(DataType type, const void* at, std::int64_t i) {
  if (type == DataType::kFloat32) return get<float>(at, i);
  if (type == DataType::kFloat16) return get<__half>(at, i);
  return get<__nv_bfloat16>(at, i);
}

std::vector<float> random_floats(std::int64_t count, double low, double high, std::mt19937& random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uniform_real_distribution<double> distribution(low, high);
  for (float& value : values) value = static_cast<float>(distribution(random));
  return values;
}

}  // namespace

std::int64_t Case::stored_channels() const {
  return layout == Layout::kLinear ? 0 : divide_up(channels, padded_to) * padded_to;
}

std::string Case::name() const {
  const char* const tactics[] = {"", "one block", "cluster", "cooperative", "two kernels", "queue", "large queue"};
  return std::string(tactics[static_cast<int>(tactic)]) + " of " + std::to_string(blocks) + ", (" +
         std::to_string(batch) + ", " + std::to_string(channels) + ", " + std::to_string(spatial) + "), type " +
         std::to_string(static_cast<int>(type)) + ", layout " + std::to_string(static_cast<int>(layout)) +
         " padded to " + std::to_string(padded_to) + ", epilogue " + std::to_string(static_cast<int>(epilogue)) +
         ", ddof " + std::to_string(ddof) + (aligned ? "" : ", not aligned") +
         (y == Y::kElsewhere ? ""
          : y == Y::kInX     ? ", in X"
                             : ", in the residual");
}

constexpr std::align_val_t kBufferAlignment{128};

// A shift of 4 bytes keeps every type at a multiple of its size.
Buffer::Buffer(std::int64_t bytes, bool aligned) : shift_(aligned ? 0 : 4) {
  const std::size_t size = static_cast<std::size_t>(bytes) + shift_;
  memory_ = static_cast<unsigned char*>(::operator new[](size, kBufferAlignment));
  std::memset(memory_, 0xFF, size);
}

Buffer::~Buffer() { ::operator delete[](memory_, kBufferAlignment); }

Sample::Sample(const Case& c)
    : case_(c),
      problem_{},
      elements_(c.batch * c.spatial * (c.layout == Layout::kLinear ? c.channels : c.stored_channels())),
      x_memory_(elements_ * bytes_of(c.type), c.aligned),
      residual_memory_(elements_ * bytes_of(c.type), c.aligned),
      y_memory_(elements_ * bytes_of(c.type), c.aligned) {
  problem_.batch = c.batch;
  problem_.channels = c.channels;
  problem_.spatial = c.spatial;
  problem_.stored_channels = c.stored_channels();
  problem_.has_in = c.has_in ? 1 : 0;
  problem_.ddof = c.ddof;
  problem_.data_type = static_cast<std::int32_t>(c.type);
  problem_.layout = static_cast<std::int32_t>(c.layout);
  problem_.epilogue = static_cast<std::int32_t>(c.epilogue);
  problem_.mean_in = 0.5F;
  problem_.mean_ln = 0.3F;
  problem_.var_in = 0.25F;
  problem_.var_ln = 0.6F;

  // The same values for a sample whatever the batch is.
  x_.resize(static_cast<std::size_t>(c.batch * c.channels * c.spatial));
  residual_.resize(x_.size());
  std::size_t i = 0;
  for (std::int64_t n = 0; n < c.batch; ++n) {
    std::mt19937 random(77 + c.first_sample + static_cast<unsigned>(n));
    std::normal_distribution<double> normal;
    for (std::int64_t channel = 0; channel < c.channels; ++channel) {
      const double own = c.mean + (channel == 0 ? c.first_channel : 0.0) + c.deviation * normal(random);
      for (std::int64_t p = 0; p < c.spatial; ++p, ++i) {
        const std::int64_t at = offset(n, channel, p);
        put(c.type, x_memory_.get(), at, own + (p == 0 ? c.first_value : 0.0) + c.deviation * normal(random));
        put(c.type, residual_memory_.get(), at, normal(random));
        x_[i] = get(c.type, x_memory_.get(), at);
        residual_[i] = get(c.type, residual_memory_.get(), at);
      }
    }
  }
  std::mt19937 random(5);
  scale_ = random_floats(c.channels, -2.0, 2.0, random);
  bias_ = random_floats(c.channels, -1.0, 1.0, random);
  mean_offset_ = random_floats(c.channels, -0.5, 0.5, random);
  for (float& offset : mean_offset_) offset += static_cast<float>(0.2 * c.mean);
  var_offset_ = random_floats(c.channels, 0.1, 1.0, random);
}

std::int64_t Sample::offset(std::int64_t n, std::int64_t c, std::int64_t p) const {
  if (case_.layout == Layout::kLinear) return (n * case_.channels + c) * case_.spatial + p;
  return (n * case_.spatial + p) * case_.stored_channels() + c;
}

Request Sample::request() const {
  Request request;
  const Status status = request_from_c(&problem_, case_.aligned, &request);
  if (status != Status::kOk) request.problem.batch = -1;
  return request;
}

SnCudaTensors Sample::tensors() const {
  return {x_memory_.get(),    scale_.data(),          bias_.data(), mean_offset_.data(),
          var_offset_.data(), residual_memory_.get(), y()};
}

void* Sample::y() const {
  switch (case_.y) {
    case Case::Y::kElsewhere:
      break;
    case Case::Y::kInX:
      return x_memory_.get();
    case Case::Y::kInResidual:
      return residual_memory_.get();
  }
  return y_memory_.get();
}

Status Sample::run(void (*spoil)(Launch&)) {
  const Request request = this->request();
  const Status status = make_plan(request.problem, request.storage, case_.limits, case_.tactic, case_.blocks, &plan_);
  if (status != Status::kOk) return status;
  const Buffer workspace(plan_.workspace_bytes, true);
  const Launches launches = prepare(request, problem_, tensors(), plan_, case_.limits.multiprocessors, workspace.get());
  for (int i = 0; i < launches.count; ++i) {
    Launch launch = launches.list[i];
    if (spoil != nullptr) spoil(launch);
    test::run(launch);
  }
  return Status::kOk;
}

std::vector<double> oracle_of(const SnCudaProblem& problem, const SnCudaTensors& parameters,
                              const std::vector<double>& x, const std::vector<double>& residual) {
  const auto hw = static_cast<std::size_t>(problem.spatial);
  const auto channels = static_cast<std::size_t>(problem.channels);
  const bool has_in = problem.has_in != 0;
  const auto epilogue = static_cast<Epilogue>(problem.epilogue);
  std::vector<double> y(x.size());
  for (std::size_t n = 0; n < static_cast<std::size_t>(problem.batch); ++n) {
    std::vector<double> mean_in(channels, 0.0), var_in(channels, 0.0);
    const double* own = x.data() + n * channels * hw;
    for (std::size_t k = 0; k < channels && has_in; ++k) {
      for (std::size_t p = 0; p < hw; ++p) mean_in[k] += own[k * hw + p] / static_cast<double>(hw);
      for (std::size_t p = 0; p < hw; ++p) var_in[k] += std::pow(own[k * hw + p] - mean_in[k], 2);
      var_in[k] /= static_cast<double>(problem.spatial - problem.ddof);
    }
    const std::vector<double> means = has_in ? mean_in : std::vector<double>(own, own + channels);
    double mean_ln = 0.0, spread = 0.0, var_sum = 0.0;
    for (const double mean : means) mean_ln += mean / static_cast<double>(channels);
    for (const double mean : means) spread += std::pow(mean - mean_ln, 2);
    for (const double var : var_in) var_sum += var;
    const double divisor = static_cast<double>(has_in ? problem.channels : problem.channels - problem.ddof);
    const double var_ln = (spread + var_sum) / divisor;
    for (std::size_t k = 0; k < channels; ++k) {
      const double mean_share = has_in ? static_cast<double>(problem.mean_in) * mean_in[k] : 0.0;
      const double var_share = has_in ? static_cast<double>(problem.var_in) * var_in[k] : 0.0;
      const double mean =
          mean_share + static_cast<double>(problem.mean_ln) * mean_ln + static_cast<double>(parameters.mean_offset[k]);
      const double var =
          var_share + static_cast<double>(problem.var_ln) * var_ln + static_cast<double>(parameters.var_offset[k]);
      const double scale = static_cast<double>(parameters.scale[k]) / std::sqrt(var);
      for (std::size_t p = 0; p < hw; ++p) {
        const std::size_t i = (n * channels + k) * hw + p;
        y[i] = (x[i] - mean) * scale + static_cast<double>(parameters.bias[k]);
        if (epilogue == Epilogue::kAddRelu) y[i] += residual[i];
        if (epilogue != Epilogue::kNone) y[i] = std::max(y[i], 0.0);
      }
    }
  }
  return y;
}

double Sample::error() const {
  const std::vector<double> expected = oracle_of(problem_, tensors(), x_, residual_);
  double largest = 0.0;
  std::size_t i = 0;
  for (std::int64_t n = 0; n < case_.batch; ++n) {
    for (std::int64_t c = 0; c < case_.channels; ++c) {
      for (std::int64_t p = 0; p < case_.spatial; ++p, ++i) {
        const double y = get(case_.type, this->y(), offset(n, c, p));
        const double off = std::abs(y - expected[i]) / (1.0 + std::abs(expected[i]));
        if (!(off <= largest)) largest = std::isnan(off) ? std::numeric_limits<double>::infinity() : off;
      }
    }
    for (std::int64_t c = case_.channels; c < case_.stored_channels(); ++c) {
      for (std::int64_t p = 0; p < case_.spatial; ++p) {
        const double padding = get(case_.type, this->y(), offset(n, c, p));
        if (!(padding == 0.0)) largest = std::numeric_limits<double>::infinity();
      }
    }
  }
  return largest;
}

void Sample::put_nan(std::int64_t n, std::int64_t c, std::int64_t p) {
  put(case_.type, x_memory_.get(), offset(n, c, p), std::numeric_limits<double>::quiet_NaN());
}

bool Sample::is_nan(std::int64_t n, std::int64_t c, std::int64_t p) const {
  return std::isnan(get(case_.type, y(), offset(n, c, p)));
}

std::vector<unsigned char> Sample::bytes_of_y() const {
  const auto* bytes = static_cast<const unsigned char*>(y());
  return {bytes, bytes + elements_ * bytes_of(case_.type)};
}

}  // namespace sn_deploy::cuda::test
