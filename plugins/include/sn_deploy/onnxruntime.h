/* The operators of libsn_deploy_ort.so and libsn_deploy_ort_cuda.so, for programs that link to one of them: plain C.
 * Programs that don't give ONNX Runtime the library's path (OrtApi::RegisterCustomOpsLibrary_V2), which does the same.
 */
#ifndef SN_DEPLOY_ONNXRUNTIME_H_
#define SN_DEPLOY_ONNXRUNTIME_H_

#include <onnxruntime_c_api.h>

#if defined(__GNUC__)
#define SN_ORT_API __attribute__((visibility("default")))
#else
#define SN_ORT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Registers the operators with these options, for every session that is made with them: sn_ort_register(options,
 * OrtGetApiBase()). Twice is as good as once. Null, or a status that is the caller's to release: ONNX Runtime older
 * than 1.18, both libraries for one session, or no memory. Any thread may call it, for options that no other one uses.
 */
SN_ORT_API OrtStatus* sn_ort_register(OrtSessionOptions* options, const OrtApiBase* base);

#ifdef __cplusplus
}
#endif

#endif /* SN_DEPLOY_ONNXRUNTIME_H_ */
