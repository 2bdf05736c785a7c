/* The CUDA launchers on raw device pointers: plain C, for the TensorRT plugin, ctypes and benchmarks.
 *
 * Every function returns a status of core/problem.h, 0 for success; `sn_cuda_reason` says it in words. No function
 * allocates, synchronises or uses the legacy stream, so launches can be captured into CUDA graphs; none keeps state but
 * the cached properties of the devices, so any thread may call any of them at any time.
 */
#ifndef SN_DEPLOY_CUDA_H_
#define SN_DEPLOY_CUDA_H_

#include <stdint.h>

#if defined(__GNUC__)
#define SN_CUDA_API __attribute__((visibility("default")))
#else
#define SN_CUDA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* X is (N, C, HW) or, with layout 1, (N, HW, stored_channels); rank 2, (N, C), has has_in = 0 and spatial = 1. */
typedef struct SnCudaProblem {
  int64_t batch;           /* N, may be 0 */
  int64_t channels;        /* C */
  int64_t spatial;         /* HW */
  int64_t stored_channels; /* layout 1: C and its padding, else 0 */
  int32_t has_in;          /* 1, or 0 for rank 2 */
  int32_t ddof;            /* 0 or 1 */
  int32_t data_type;       /* of X, Y and the residual: 0 float32, 1 float16, 2 bfloat16 */
  int32_t layout;          /* 0 linear, 1 channels-last */
  int32_t epilogue;        /* 0 none, 1 ReLU, 2 residual and ReLU */
  float mean_in, mean_ln, var_in, var_ln;
} SnCudaProblem;

/* Device pointers. Y may be X, and may be the residual; it may overlap neither in any other way. `residual` has X's
 * layout; null but for epilogue 2. In channels-last, Y's padding is set to 0; what X and the residual hold in theirs
 * doesn't matter. */
typedef struct SnCudaTensors {
  const void* x;
  const float* scale; /* (C), as the next three */
  const float* bias;
  const float* mean_offset;
  const float* var_offset;
  const void* residual;
  void* y;
} SnCudaTensors;

/* A tactic as one number above 0, for TensorRT and for timing tables: core/plan.h's Tactic + 256 * K. */
typedef int32_t SnCudaTactic;

/* Tactics worth timing on the current device, best guesses first; at most `capacity`. Assumes aligned addresses. */
SN_CUDA_API int32_t sn_cuda_list_tactics(const SnCudaProblem* problem, SnCudaTactic* tactics, int32_t capacity,
                                         int32_t* count);

/* The tactic to use where nothing was timed, on the current device. */
SN_CUDA_API int32_t sn_cuda_choose_tactic(const SnCudaProblem* problem, SnCudaTactic* tactic);

/* The tactic that always runs. */
SN_CUDA_API int32_t sn_cuda_fallback_tactic(const SnCudaProblem* problem, SnCudaTactic* tactic);

/* Bytes of workspace with which every tactic runs on every device, for this problem and any with a smaller batch or
 * spatial extent; fewer channels may need more. Needs no device. */
SN_CUDA_API int32_t sn_cuda_workspace_bytes(const SnCudaProblem* problem, int64_t* bytes);

/* Bytes of workspace that one tactic needs on the current device; 0 for most. kTactic where it can't run there. */
SN_CUDA_API int32_t sn_cuda_tactic_workspace_bytes(const SnCudaProblem* problem, SnCudaTactic tactic, int64_t* bytes);

/* Puts the operator on the stream (a cudaStream_t). `workspace` has to be aligned to 128 bytes; its contents don't
 * matter. Gives kTactic, and launches nothing, where the current device can't run the tactic. */
SN_CUDA_API int32_t sn_cuda_launch(const SnCudaProblem* problem, const SnCudaTensors* tensors, SnCudaTactic tactic,
                                   void* workspace, int64_t workspace_bytes, void* stream);

/* A status in words. Never null. */
SN_CUDA_API const char* sn_cuda_reason(int32_t status);

/* What CUDA said when this thread's last call gave kDevice. Never null. */
SN_CUDA_API const char* sn_cuda_device_error(void);

#ifdef __cplusplus
}
#endif

#endif /* SN_DEPLOY_CUDA_H_ */
