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

// A view of columns of a tile, each of kTileRows contiguous rows: a pointer that knows the distance from one column to
// the next. The number of columns is known to the code that laid them out.
template <class T>
class Columns {
 public:
  Columns() = default;
  explicit Columns(T* data) : data_(data) {}
  // A view to read from, of columns that may be written.
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T> && !std::is_same_v<U, T>>>
  Columns(Columns<U> other) : data_(other.data()) {}

  // A column, which begins at its first row.
  T* operator[](Index column) const { return data_ + column * kTileRows; }
  // The columns of a region, and the columns from one on.
  Columns operator[](Region region) const { return from(region.first); }
  Columns from(Index column) const { return Columns((*this)[column]); }
  // The same columns, from a row on.
  Columns from_row(Index row) const { return Columns(data_ + row); }

  T* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  T* data_ = nullptr;
};

// Calls f(column, row) for each lane block of `count` columns.
template <class F>
inline void for_each_lanes(Index padded, Index count, F&& f) {
  for (Index column = 0; column < count; ++column)
    for (Index row = 0; row < padded; row += kLanes) f(column, row);
}

}  // namespace pushforward
