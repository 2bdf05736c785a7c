// Launches every tactic that the device has, for every type, layout and epilogue at small sizes, and holds each result
// against float64. It needs nothing but CUDA and is quick: what compute-sanitizer is to watch.
//
//     check_launches [quick | smoke]
//
// `quick` takes each epilogue in turn, `smoke` one size alone.
//
// Exit code 0 for right results, 1 for wrong ones and for a launch that doesn't end, 2 where there is no GPU.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "cuda/tests/memory.h"
#include "cuda/tests/sample.h"
#include "sn_deploy/cuda.h"

namespace sn_deploy::cuda::test {
namespace {

constexpr std::int32_t kMostTactics = 32;

// Rounding of Y to its type, and the float32 statistics.
double tolerance(DataType type) { return type == DataType::kFloat32 ? 2e-6 : type == DataType::kFloat16 ? 6e-4 : 5e-3; }

// A launch that never ends can't be waited for, and whoever ends the program doesn't know which one it was: so the
// program does both. Longer than a launch takes under compute-sanitizer's slowest tool, the first with all its code.
constexpr unsigned kPatience = 60;  // seconds

char running[512];  // what is launched, for `tell_and_end`

void say(const char* text) {
  const ssize_t written = write(STDOUT_FILENO, text, std::strlen(text));
  static_cast<void>(written);  // there is nobody else to tell
}

void tell_and_end(int signal) {
  say(signal == SIGALRM ? "FAILED " : "ended in ");
  say(running);
  say(signal == SIGALRM ? ": it doesn't end\n" : "\n");
  _exit(1);
}

struct Tally {
  int launches = 0;
  int failures = 0;
  double worst = 0.0;  // error over tolerance
};

// The sample's tensors on the device. The workspace holds what it held: no kernel may read what none wrote.
class OnDevice {
 public:
  OnDevice(Sample& sample, const Case& c, std::size_t workspace_bytes)
      : sample_(sample),
        bytes_(static_cast<std::size_t>(sample.bytes())),
        parameter_bytes_(static_cast<std::size_t>(c.channels) * sizeof(float)),
        x_(bytes_, c.aligned ? 0 : 4),
        residual_(bytes_, c.aligned ? 0 : 4),
        y_(bytes_, c.aligned ? 0 : 4),
        scale_(parameter_bytes_),
        bias_(parameter_bytes_),
        mean_offset_(parameter_bytes_),
        var_offset_(parameter_bytes_),
        workspace_(workspace_bytes) {
    const SnCudaTensors host = sample.tensors();
    copy_in(x_.get(), host.x, bytes_);
    copy_in(residual_.get(), host.residual, bytes_);
    fill(y_.get(), 0xFF, bytes_);
    copy_in(scale_.get(), host.scale, parameter_bytes_);
    copy_in(bias_.get(), host.bias, parameter_bytes_);
    copy_in(mean_offset_.get(), host.mean_offset, parameter_bytes_);
    copy_in(var_offset_.get(), host.var_offset, parameter_bytes_);
  }

  SnCudaTensors tensors() const {
    const auto floats = [](const DeviceBuffer& buffer) { return static_cast<const float*>(buffer.get()); };
    return {x_.get(),        floats(scale_), floats(bias_), floats(mean_offset_), floats(var_offset_),
            residual_.get(), y_.get()};
  }
  void* workspace() const { return workspace_.get(); }
  void copy_y_back() const { copy_out(sample_.tensors().y, y_.get(), bytes_); }

 private:
  Sample& sample_;
  std::size_t bytes_, parameter_bytes_;
  DeviceBuffer x_, residual_, y_, scale_, bias_, mean_offset_, var_offset_, workspace_;
};

void fail(const Case& c, const char* what, const char* why, Tally* tally) {
  std::printf("FAILED %s: %s: %s\n", c.name().c_str(), what, why);
  ++tally->failures;
}

// `may_refuse`: a tactic that can't run the case is no failure.
void check_tactic(const Case& c, SnCudaTactic tactic, Tally* tally, bool may_refuse = false) {
  Sample sample(c);
  const SnCudaProblem& problem = sample.problem();
  std::int64_t bytes = 0;
  std::int32_t status = sn_cuda_tactic_workspace_bytes(&problem, tactic, &bytes);
  if (may_refuse && status == static_cast<std::int32_t>(Status::kTactic)) return;
  const OnDevice on_device(sample, c, static_cast<std::size_t>(bytes));
  const SnCudaTensors tensors = on_device.tensors();
  const std::string code = "tactic " + std::to_string(tactic % 256) + " of " + std::to_string(tactic / 256);
  std::snprintf(running, sizeof running, "%s: %s", c.name().c_str(), code.c_str());
  alarm(kPatience);
  if (status == 0) status = sn_cuda_launch(&problem, &tensors, tactic, on_device.workspace(), bytes, nullptr);
  const char* failure = device_failure();
  alarm(0);
  if (status != 0) return fail(c, code.c_str(), status == 16 ? sn_cuda_device_error() : sn_cuda_reason(status), tally);
  if (failure != nullptr) return fail(c, code.c_str(), failure, tally);
  on_device.copy_y_back();
  ++tally->launches;
  const double error = sample.error() / tolerance(c.type);
  tally->worst = error > tally->worst ? error : tally->worst;
  if (!(error <= 1.0)) fail(c, code.c_str(), "the result is wrong", tally);
}

constexpr SnCudaTactic kQueues[] = {2 * 256 + 5, 4 * 256 + 6};

// Queues are offered where they fill a device. Smaller ones run as well, with most of its blocks finding nothing left.
void check_queues(const Case& c, Tally* tally) {
  for (const SnCudaTactic tactic : kQueues) check_tactic(c, tactic, tally, true);
}

void check_case(const Case& c, Tally* tally) {
  const Sample sample(c);
  SnCudaTactic tactics[kMostTactics];
  std::int32_t count = 0;
  const std::int32_t status = sn_cuda_list_tactics(&sample.problem(), tactics, kMostTactics, &count);
  if (status != 0) return fail(c, "listing tactics", sn_cuda_reason(status), tally);
  for (std::int32_t i = 0; i < count; ++i) {
    // Addresses that aren't aligned may leave a tactic without room; those that were offered here assume they are.
    const bool queue = is_queue(static_cast<Tactic>(tactics[i] % 256));
    if (!queue && (c.aligned || tactics[i] == 1 || tactics[i] == 4)) check_tactic(c, tactics[i], tally);
  }
  if (c.aligned) check_queues(c, tally);
}

struct Size {
  std::int64_t batch, channels, spatial;
};

void check_sizes(const Size* sizes, int count, bool quick, Tally* tally) {
  for (int i = 0; i < count; ++i) {
    for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
      for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
        Case c;
        c.batch = sizes[i].batch;
        c.channels = sizes[i].channels;
        c.spatial = sizes[i].spatial;
        c.type = type;
        c.layout = layout;
        c.padded_to = layout == Layout::kChannelsLast && type != DataType::kFloat32 ? 8 : 1;
        for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu}) {
          if (quick && static_cast<int>(epilogue) != (i + static_cast<int>(type)) % 3) continue;
          c.epilogue = epilogue;
          check_case(c, tally);
        }
        if (type == DataType::kFloat16) {
          c.aligned = false;
          check_case(c, tally);
        }
      }
    }
  }
}

// Many items at a time, of several parts, and samples that wait in the queue.
void check_long_queues(bool quick, Tally* tally) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    for (const Layout layout : {Layout::kLinear, Layout::kChannelsLast}) {
      for (const Epilogue epilogue : {Epilogue::kNone, Epilogue::kRelu, Epilogue::kAddRelu}) {
        Case c;
        c.batch = 40;
        c.channels = 72;
        c.spatial = 1800;
        c.type = type;
        c.layout = layout;
        c.epilogue = epilogue;
        const bool first = type == DataType::kFloat16 && layout == Layout::kChannelsLast && epilogue == Epilogue::kRelu;
        if (!quick || first) check_queues(c, tally);
      }
    }
  }
}

void check_rank_two(Tally* tally) {
  for (const DataType type : {DataType::kFloat32, DataType::kFloat16, DataType::kBfloat16}) {
    for (const std::int64_t channels : {2, 10, 1000}) {
      Case c;
      c.has_in = false;
      c.spatial = 1;
      c.channels = channels;
      c.type = type;
      c.epilogue = Epilogue::kAddRelu;
      check_case(c, tally);
    }
  }
}

int check_all(const std::string& extent) {
  // Whole vectors and none; fewer channels than blocks, and more than threads; one channel; two positions.
  constexpr Size kSizes[] = {{1, 13, 49}, {2, 16, 48}, {2, 3, 600}, {1, 1, 2}, {3, 40, 196}, {1, 300, 9}, {1, 64, 784}};
  Tally tally;
  const bool smoke = extent == "smoke";
  check_sizes(kSizes, smoke ? 1 : 7, smoke || extent == "quick", &tally);
  check_rank_two(&tally);
  if (!smoke) check_long_queues(extent == "quick", &tally);
  std::printf("%d launches, %d failures; worst error %.2f of the tolerance\n", tally.launches, tally.failures,
              tally.worst);
  return tally.failures == 0 && tally.launches > 0 ? 0 : 1;
}

}  // namespace
}  // namespace sn_deploy::cuda::test

int main(int count, char** arguments) {
  if (const char* reason = sn_deploy::cuda::test::why_no_device()) {
    std::fprintf(stderr, "no GPU: %s\n", reason);
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // into a file, too: what was found is there if it is ended
  for (const int signal : {SIGALRM, SIGTERM}) std::signal(signal, sn_deploy::cuda::test::tell_and_end);
  return sn_deploy::cuda::test::check_all(count > 1 ? arguments[1] : "");
}
