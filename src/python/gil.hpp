// Python's lock, given back while the core computes.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>

#ifdef __GLIBCXX__
#include <cxxabi.h>

#include <thread>
#endif

#include "pushforward/threads/arena.hpp"
#include "pushforward/threads/watch.hpp"

namespace pushforward::bindings {

class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;
  ~WithoutGil() { take(); }

 protected:
  void give() { state_ = PyEval_SaveThread(); }

  // Once the interpreter ends, Python before 3.14 ends a thread that asks for the lock, by pthread_exit. With glibc
  // that unwinds the stack, and would end the process here, where nothing may be thrown. Such a thread waits for the
  // end, as it does from 3.14 on and elsewhere.
  void take() {
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

// Ends a call. Python's exception has been set.
struct Interrupted {};

// The same for calls that change nothing but their results: now and then the main thread lets Python handle signals,
// and an exception, as KeyboardInterrupt, ends the call.
class InterruptibleWithoutGil : private WithoutGil, private Watch {
 private:
  using Clock = std::chrono::steady_clock;

  static constexpr auto kPause = std::chrono::milliseconds(50);

  void look() override {
    const auto now = Clock::now();
    if (now < next_) return;
    bool raised = false;
    {
      // A handler may call the core.
      const ArenaAside aside;
      take();
      raised = handle_signals();
      give();
    }
    if (raised) throw Interrupted();
    // The lock may be long in coming, from many threads: a tenth of the time is spent on it at most.
    const auto end = Clock::now();
    next_ = in_main_thread_ ? end + std::max<Clock::duration>(kPause, 10 * (end - now)) : Clock::time_point::max();
  }

  // Returns whether Python's exception is set.
  bool handle_signals() {
    if (PyErr_CheckSignals() != 0) return true;
    try {
      // Python handles signals in no other.
      const auto main = pybind11::module_::import("threading").attr("main_thread")();
      in_main_thread_ = main.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
    } catch (pybind11::error_already_set& error) {
      error.restore();  // a signal came just now
      return true;
    }
    return false;
  }

  bool in_main_thread_ = true;
  Clock::time_point next_ = Clock::now() + kPause;
};

}  // namespace pushforward::bindings
