# The GPUs that the kernels are compiled for, where CMAKE_CUDA_ARCHITECTURES doesn't say otherwise: Turing to Blackwell
# as machine code, and PTX of the last for what comes after. Code for x.y runs on x.z with z >= y too.
set(SN_CUDA_ARCHITECTURES 75-real 80-real 90-real 100-real 120)
# These among them get the PTX of 8.0, for which nvcc's slowest step is gone through once. The kernels ask for no other of
# the three, so theirs would be the same but for the name of its target, and so would the machine code.
set(SN_CUDA_OF_80 86 89)
# The first nvcc that knows all of them.
set(SN_CUDA_OLDEST_COMPILER 12.8)
