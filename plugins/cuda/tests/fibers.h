// Many threads of control on one thread of the system, each with a stack of its own; told to the sanitizers, so that
// the thread sanitizer takes them for threads and reports what is not ordered by an atomic operation.
#pragma once

#include <functional>

namespace sn_deploy::cuda::test {

// Runs body(0) … body(count - 1), each until it yields, in an order that changes from turn to turn; returns when all
// have ended. Not to be nested.
void run_fibers(int count, const std::function<void(int)>& body);

// Lets the others run. Only within run_fibers.
void yield_fiber();

}  // namespace sn_deploy::cuda::test
