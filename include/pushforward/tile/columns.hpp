// A view of tile columns, and the layout that shares them out.
#pragma once

#include <type_traits>

#include "pushforward/tile/sizes.hpp"

namespace pushforward {

// A run of tile columns.
struct Region {
  Index first = 0, count = 0;

  Index end() const { return first + count; }
};

// Shares out tile columns: each call of take() returns the next region. A layer lays out its cache and its scratch
// memory once, when it is constructed.
class ColumnLayout {
 public:
  Region take(Index count) {
    const Region region{count_, count};
    count_ += count;
    return region;
  }
  // All columns handed out so far.
  Index count() const { return count_; }

 private:
  Index count_ = 0;
};

// A view of columns of a tile, each of kTileRows contiguous rows. It is a pointer that knows the distance from one
// column to the next; how many columns there are is for its owner to know.
template <class T>
class Columns {
 public:
  Columns() = default;
  explicit Columns(T* data) : data_(data) {}
  // Columns to be written can be read.
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T> && !std::is_same_v<U, T>>>
  Columns(Columns<U> other) : data_(other.data()) {}

  // The first row of a column.
  T* operator[](Index column) const { return data_ + column * kTileRows; }
  Columns operator[](Region region) const { return from(region.first); }
  // The columns from one on.
  Columns from(Index column) const { return Columns(data_ + column * kTileRows); }

  T* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  T* data_ = nullptr;
};

// Calls f(offset) for each lane block of `columns` tile columns.
template <class F>
inline void for_each_lanes(Index padded, Index columns, F&& f) {
  for (Index column = 0; column < columns; ++column)
    for (Index row = 0; row < padded; row += kLanes) f(column * kTileRows + row);
}

}  // namespace pushforward
