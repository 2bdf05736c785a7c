/* A 1 x 1 convolution with its SN layer, as launch.h's functions are: a trial, which nothing but its tests and
 * benchmarks/gpu_expansions.py calls (docs/decisions/0016-kernels-on-a-gpu.md). In float16, channels-last. */
#ifndef SN_DEPLOY_CUDA_CONVOLUTION_LAUNCH_H_
#define SN_DEPLOY_CUDA_CONVOLUTION_LAUNCH_H_

#include "sn_deploy/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X is (N, x_height, x_width, depth); Y, which the SnCudaProblem tells of, has every stride-th position of it. */
typedef struct SnConvolution {
  int64_t depth; /* 64, 128, 256 or 512 */
  int64_t stride;
  int64_t x_height, x_width;
} SnConvolution;

typedef struct SnConvolutionTactic {
  int32_t kept; /* 0 streamed, 1 kept */
  int32_t parts, sides, warps, tiles;
} SnConvolutionTactic;

/* Tactics worth timing on the current device; at most `capacity`. */
SN_CUDA_API int32_t sn_convolution_list_tactics(const SnCudaProblem* problem, const SnConvolution* convolution,
                                                SnConvolutionTactic* tactics, int32_t capacity, int32_t* count);

/* Puts it on the stream. `tensors->x` is the convolution's input, `filter` (C, depth). All addresses have to be
 * multiples of 16 bytes. Gives kTactic, and launches nothing, where the current device can't run the tactic. */
SN_CUDA_API int32_t sn_convolution_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors,
                                          const void* filter, const SnConvolution* convolution,
                                          const SnConvolutionTactic* tactic, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* SN_DEPLOY_CUDA_CONVOLUTION_LAUNCH_H_ */
