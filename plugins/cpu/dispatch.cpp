// Which instruction sets this library was built with, and which of them this processor has.
#include <cstdint>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "cpu/kernels.h"

namespace sn_deploy::cpu {
namespace {

#if defined(__x86_64__)
// Not all compilers' __builtin_cpu_supports knows it.
bool has_f16c() {
  unsigned int a = 0;
  unsigned int b = 0;
  unsigned int c = 0;
  unsigned int d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

// Of those that `fits` accepts; the baseline fits everything.
template <typename Fits>
const Kernels* widest(Fits fits) {
  for (const InstructionSet set : {InstructionSet::kAvx512, InstructionSet::kAvx2}) {
    const Kernels* kernels = kernels_of(set);
    if (kernels != nullptr && fits(*kernels)) return kernels;
  }
  return &baseline::kKernels;
}

}  // namespace

const Kernels* kernels_of(InstructionSet set) {
#if defined(__x86_64__)
  // These also ask whether the operating system saves the wider registers.
  if (set == InstructionSet::kAvx2) {
    const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    return has ? &avx2::kKernels : nullptr;
  }
  if (set == InstructionSet::kAvx512) {
    const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                     __builtin_cpu_supports("fma") && has_f16c();
    return has ? &avx512::kKernels : nullptr;
  }
#endif
  return set == InstructionSet::kBaseline ? &baseline::kKernels : nullptr;
}

const Kernels& best_kernels() {
  static const Kernels* const best = widest([](const Kernels&) { return true; });
  return *best;
}

const Kernels& best_kernels(std::int64_t block) {
  static const Kernels* const of_8 = widest([](const Kernels& each) { return each.blocked[0].moments != nullptr; });
  static const Kernels* const of_16 = widest([](const Kernels& each) { return each.blocked[1].moments != nullptr; });
  return block == 8 ? *of_8 : *of_16;
}

}  // namespace sn_deploy::cpu
