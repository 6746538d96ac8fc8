// Sums that do not depend on who adds what, for Python: the tree of a gradient's slots, and sums without rounding.
#include <vector>

#include "arrays.hpp"
#include "bindings.hpp"
#include "gil.hpp"
#include "pushforward/core.hpp"
#include "pushforward/data/exact_sum.hpp"
#include "pushforward/engine/memory.hpp"

namespace pushforward::bindings {

namespace {

using Integers = py::array_t<std::int64_t, py::array::c_style>;

// For each of `parts` processes: its slots, its rows, and its nodes of the tree.
py::list share_slots(Index rows, Index tile_rows, Index parameter_bytes, Index parts) {
  if (rows < 0 || tile_rows < 1 || parameter_bytes < 0 || parts < 1)
    throw std::invalid_argument("rows, tile_rows, parameter_bytes, parts");
  const Index tiles = tile_count(rows, tile_rows), slots = SlotPlan::slots(tiles, parameter_bytes);
  py::list shares;
  for (Index part = 0; part < parts; ++part) {
    const Index first = part * slots / parts, last = (part + 1) * slots / parts;
    const SlotPlan plan(tiles, parameter_bytes, 1, first, last);
    py::list nodes;
    for (Index slot = first; slot < last;) {
      const SlotNode node = plan.node_at(slot);
      nodes.append(py::make_tuple(node.first, node.level));
      slot = plan.end(node);
    }
    shares.append(py::make_tuple(py::make_tuple(first, last),
                                 py::make_tuple(std::min(rows, plan.first_tile(first) * tile_rows),
                                                std::min(rows, plan.first_tile(last) * tile_rows)),
                                 nodes));
  }
  return shares;
}

template <class Scalar>
using Flat = py::array_t<Scalar, py::array::c_style>;

template <class Scalar>
void add(const Flat<Scalar>& terms, const Integers& offsets, const std::vector<std::pair<Index, int>>& nodes,
         Flat<Scalar>& sum, int threads) {
  const auto count = static_cast<Index>(nodes.size());
  const Index size = sum.size();
  if (count < 1 || offsets.size() != count) throw std::invalid_argument("offsets");
  for (Index i = 0; i < count; ++i)
    if (offsets.data()[i] < 0 || offsets.data()[i] + size > terms.size() ||
        nodes[static_cast<std::size_t>(i)].second < 0 || nodes[static_cast<std::size_t>(i)].second >= kMostLevels)
      throw std::out_of_range("offsets");
  if (count > 2 * kMostLevels * kMostGradientSlots) throw std::invalid_argument("nodes");
  const Scalar* from = terms.data();
  const std::int64_t* at = offsets.data();
  Scalar* to = sum.mutable_data();
  const WithoutGil released;
  parallel_pieces(size, kParameterPiece, threads, [&](Index, Index first, Index part) {
    add_nodes(
        count, part,
        [&](Index i) {
          const auto& [slot, level] = nodes[static_cast<std::size_t>(i)];
          return SlotNode{slot, level};
        },
        [&](Index i) { return from + at[i] + first; }, to + first);
  });
}

template <class Scalar>
double norm_of(const Flat<Scalar>& gradient, int threads) {
  const WithoutGil released;
  return norm(static_cast<Index>(gradient.size()), gradient.data(), threads);
}

// Adds each column of values (n, k) to its sum (k, kSumEntries).
void add_to_sums(const py::array_t<double, py::array::c_style>& values, Integers& sums) {
  if (values.ndim() != 2 || sums.ndim() != 2 || sums.shape(0) != values.shape(1) || sums.shape(1) != kSumEntries)
    throw std::invalid_argument("values and sums");
  const Index columns = values.shape(1), rows = values.shape(0);
  const double* from = values.data();
  std::int64_t* to = sums.mutable_data();
  const WithoutGil released;
  for (Index column = 0; column < columns; ++column)
    add_exactly(rows, from + column, columns, to + column * kSumEntries);
}

}  // namespace

void bind_sums(py::module_& module) {
  using py::arg;
  module.def("share_slots", &share_slots, arg("rows"), arg("tile_rows"), arg("parameter_bytes"), arg("parts"),
             "Share out the slots of a minibatch's gradient among so many processes. Return for each its slots and its "
             "rows, as first and last + 1, and its nodes of the tree, as first slot and level.");
  const char* text =
      "Add nodes of the tree of slots, each at its offset in `terms`, as one process does, and write their sum.";
  module.def("add_nodes", &add<float>, arg("terms").noconvert(), arg("offsets"), arg("nodes"), arg("sum").noconvert(),
             arg("threads"), text);
  module.def("add_nodes", &add<double>, arg("terms").noconvert(), arg("offsets"), arg("nodes"), arg("sum").noconvert(),
             arg("threads"), text);
  module.def("norm", &norm_of<float>, arg("gradient").noconvert(), arg("threads"), "Return the norm of a gradient.");
  module.def("norm", &norm_of<double>, arg("gradient").noconvert(), arg("threads"), "Return the norm of a gradient.");
  module.attr("sum_entries") = kSumEntries;
  module.def("add_exactly", &add_to_sums, arg("values"), arg("sums").noconvert(),
             "Add each column of `values` (n, k) without rounding to the digits of its sum (k, sum_entries).");
}

}  // namespace pushforward::bindings
