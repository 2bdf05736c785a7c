// Many threads of control on one thread of the system, each with a stack of its own; told to the sanitizers, so that
// the thread sanitizer takes them for threads and reports what is not ordered by an atomic operation.
#pragma once

#include <functional>

namespace sn_deploy::cuda::test {

// Runs body(0) … body(count - 1), each until it waits, in an order that changes from turn to turn; returns when all
// have ended, and ends the program where all wait for each other. `together` neighbours are a block: now and then one
// of these goes on alone, as far as it gets. Not to be nested.
void run_fibers(int count, int together, const std::function<void(int)>& body);

// Lets the others run; `first` of a wait, as what has ended another wait has got further. Only within run_fibers.
void yield_fiber(bool first);

template <typename Done>
void wait_until(Done done) {
  for (bool first = true; !done(); first = false) yield_fiber(first);
}

}  // namespace sn_deploy::cuda::test
