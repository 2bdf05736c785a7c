# The GPUs that the kernels are compiled for, where CMAKE_CUDA_ARCHITECTURES doesn't say otherwise: Turing to Blackwell
# as machine code, and PTX of the last for what comes after. Code for x.y runs on x.z with z >= y too.
set(SN_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real 100-real 120)
# The first nvcc that knows all of them.
set(SN_CUDA_OLDEST_COMPILER 12.8)
