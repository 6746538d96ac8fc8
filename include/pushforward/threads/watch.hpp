// A call may be watched: now and then the thread that makes it looks whether it shall end before it is done.
#pragma once

#include <utility>

namespace pushforward {

// Watches the calls of the thread that has it, until the end of its scope. An exception of look() ends the call: items
// that nobody has begun are left out, and what the call writes is not complete.
class Watch {
 public:
  Watch() : outer_(std::exchange(current_, this)) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  virtual ~Watch() { current_ = outer_; }

  // Called by loops before each item. Only the thread that makes the call is watched, so elsewhere it does nothing, as
  // within a look(), which may make calls of its own.
  static void look_now() {
    if (!current_) return;
    const Pause pause;
    pause.watch->look();
  }

 protected:
  virtual void look() = 0;

 private:
  struct Pause {
    Watch* watch = std::exchange(current_, nullptr);
    ~Pause() { current_ = watch; }
  };

  static inline thread_local Watch* current_ = nullptr;
  Watch* outer_;
};

}  // namespace pushforward
