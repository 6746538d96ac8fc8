// Python's lock, given back while the core computes.
#pragma once

#include <pybind11/pybind11.h>

#ifdef __GLIBCXX__
#include <cxxabi.h>

#include <chrono>
#include <thread>
#endif

namespace pushforward::bindings {

class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

  // Once the interpreter ends, Python before 3.14 ends a thread that asks for the lock, by pthread_exit. With glibc
  // that unwinds the stack, and would end the process here, where nothing may be thrown. Such a thread waits for the
  // end, as it does from 3.14 on and elsewhere.
  ~WithoutGil() {
#ifdef __GLIBCXX__
    try {
      PyEval_RestoreThread(state_);
    } catch (const abi::__forced_unwind&) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(state_);
#endif
  }

 private:
  PyThreadState* state_;
};

}  // namespace pushforward::bindings
