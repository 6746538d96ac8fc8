// The caller's memory with its length.
#pragma once

#include <functional>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// A view of numbers that lie side by side: those of a std::vector, a std::array or a std::span, or of a pointer and a
// length.
template <class T>
class Span {
 public:
  Span() = default;
  Span(T* data, std::size_t size) : data_(data), size_(size) {
    if (!data && size > 0)
      throw std::invalid_argument("a null pointer came where " + std::to_string(size) + " numbers are expected");
  }
  template <class Container,
            class = std::enable_if_t<std::is_same_v<
                std::remove_const_t<std::remove_pointer_t<decltype(std::data(std::declval<Container&>()))>>,
                std::remove_const_t<T>>>>
  Span(Container&& container) : Span(std::data(container), std::size(container)) {}

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// What a call checks of the views that it is given.
namespace spans {

// A view of rows that a pointer and their number tell.
template <class T>
Span<T> view(T* data, Index rows, Index width) {
  if (rows < 0 || (width > 0 && rows > std::numeric_limits<Index>::max() / width))
    throw std::invalid_argument("a call on " + std::to_string(rows) + " rows");
  return {data, static_cast<std::size_t>(rows * width)};
}

// The same of what may be left out, by a null pointer.
template <class T>
Span<T> maybe_view(T* data, Index rows, Index width) {
  return data ? view(data, rows, width) : Span<T>();
}

inline void expect_context(bool given, Index width) {
  if (given != (width > 0))
    throw std::invalid_argument(width > 0 ? "this density needs a context" : "this density has no context");
}

template <class T>
Span<T> context_view(T* data, Index rows, Index width) {
  if (data) expect_context(true, width);
  return maybe_view(data, rows, width);
}

// The number of rows in a view.
template <class T>
Index rows_of(Span<T> view, Index width, const char* name) {
  const auto size = static_cast<Index>(view.size());
  if (size % width != 0)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(size) + " numbers; rows of " +
                                std::to_string(width) + " are expected");
  return size / width;
}

template <class T>
void expect_size(Span<T> view, Index size, const char* name) {
  if (static_cast<Index>(view.size()) != size)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(view.size()) + " numbers; " +
                                std::to_string(size) + " are expected");
}

template <class A, class B>
bool overlap(Span<A> a, Span<B> b) {
  const std::less<const void*> before;
  return !a.empty() && !b.empty() && before(a.data(), b.data() + b.size()) && before(b.data(), a.data() + a.size());
}

// What is written must not overlap anything else.
template <class T, class... Others>
void expect_apart(Span<T> written, Span<Others>... others) {
  if ((overlap(written, others) || ...)) throw std::invalid_argument("a call would write over another of its buffers");
}

}  // namespace spans

}  // namespace pushforward
