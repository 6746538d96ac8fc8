// NumPy arrays as the core's views, without a copy. The Python side has checked shapes and dtypes and says so to the
// user; what is checked again here is what memory safety needs.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>

#include "pushforward/data/table.hpp"

namespace pushforward::bindings {

namespace py = pybind11;
using MaybeArray = std::optional<py::array>;
using MaybeIndex = std::optional<py::array_t<std::int64_t, py::array::c_style>>;
using MaybeThreads = std::optional<int>;
using Vector = py::array_t<double, py::array::c_style>;

inline bool holds_double(const py::array& array) {
  // Equivalence, not identity: an unpickled array has a dtype object of its own.
  if (py::isinstance<py::array_t<double>>(array)) return true;
  if (py::isinstance<py::array_t<float>>(array)) return false;
  throw std::invalid_argument("arrays must be float32 or float64 in native byte order");
}

// rows: how many rows the call has; an array of one dimension stands for that many equal rows.
inline Table table(const py::array& array, Index columns, Index rows = -1, const MaybeIndex& index = std::nullopt) {
  Table view;
  view.is_double = holds_double(array);
  const auto item = static_cast<Index>(array.itemsize());
  const bool one_row = array.ndim() == 1;
  if ((array.ndim() != 2 && !one_row) || array.shape(array.ndim() - 1) != columns)
    throw std::invalid_argument("array shape");
  view.columns = columns;
  view.row_stride = one_row ? 0 : array.strides(0) / item;
  view.column_stride = array.strides(array.ndim() - 1) / item;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis)
    if (array.strides(axis) % item != 0) throw std::invalid_argument("array strides");
  view.data = array.data();
  view.rows = one_row ? rows : array.shape(0);
  if (index) {
    const std::int64_t* at = index->data();
    for (py::ssize_t i = 0; i < index->size(); ++i)
      if (at[i] < 0 || at[i] >= view.rows) throw std::out_of_range("row index");
    view.rows = index->size();
    view.index = at;
  }
  if (rows >= 0 && view.rows != rows) throw std::invalid_argument("array rows");
  return view;
}

inline py::array empty_table(bool is_double, Index rows, Index columns) {
  return py::array(is_double ? py::dtype::of<double>() : py::dtype::of<float>(),
                   std::vector<py::ssize_t>{rows, columns});
}

inline Output output(py::array& array) { return {array.mutable_data(), holds_double(array)}; }

inline const double* data_or_null(const std::optional<Vector>& vector) { return vector ? vector->data() : nullptr; }

}  // namespace pushforward::bindings
