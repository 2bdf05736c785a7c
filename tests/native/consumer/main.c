/* Runs a model of one input X (1, 4, 3, 3) and one output Y in ONNX Runtime, without a word of Python or C++.
 *
 *   consumer MODEL.onnx [LIBRARY.so]     36 numbers in, 36 numbers out
 *
 * The operators are those of the library that it is linked to, or of LIBRARY.so, registered by its path. */
#include <onnxruntime_c_api.h>
#include <sn_deploy/onnxruntime.h>
#include <stdio.h>
#include <stdlib.h>

#define VALUES 36

static const OrtApi* api;

static void expect_fine(OrtStatus* status) {
  if (status == NULL) return;
  fprintf(stderr, "%s\n", api->GetErrorMessage(status));
  api->ReleaseStatus(status);
  exit(1);
}

int main(int argc, char** argv) {
  float x[VALUES];
  for (int i = 0; i < VALUES; ++i) {
    if (argc < 2 || scanf("%f", &x[i]) != 1) return 2;
  }
  api = OrtGetApiBase()->GetApi(18);
  OrtEnv* environment = NULL;
  OrtSessionOptions* options = NULL;
  OrtSession* session = NULL;
  OrtMemoryInfo* memory = NULL;
  OrtValue* input = NULL;
  OrtValue* output = NULL;
  expect_fine(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "consumer", &environment));
  expect_fine(api->CreateSessionOptions(&options));
  if (argc > 2) {
    expect_fine(api->RegisterCustomOpsLibrary_V2(options, argv[2]));
  } else {
    expect_fine(sn_ort_register(options, OrtGetApiBase()));
  }
  expect_fine(api->CreateSession(environment, argv[1], options, &session));
  api->ReleaseSessionOptions(options);

  const int64_t shape[] = {1, 4, 3, 3};
  const char* const inputs[] = {"X"};
  const char* const outputs[] = {"Y"};
  expect_fine(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  expect_fine(api->CreateTensorWithDataAsOrtValue(memory, x, sizeof x, shape, 4, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                  &input));
  expect_fine(api->Run(session, NULL, inputs, (const OrtValue* const*)&input, 1, outputs, 1, &output));
  void* y = NULL;
  expect_fine(api->GetTensorMutableData(output, &y));
  for (int i = 0; i < VALUES; ++i) printf("%.9g\n", (double)((const float*)y)[i]);

  api->ReleaseValue(output);
  api->ReleaseValue(input);
  api->ReleaseMemoryInfo(memory);
  api->ReleaseSession(session);
  api->ReleaseEnv(environment);
  return 0;
}
