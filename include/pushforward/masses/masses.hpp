// A mass over rows of categories: the product of each column's, given those before it, by a masked autoregressive
// network with a softmax for each column (MADE: Germain, Gregor, Murray, Larochelle 2015).
#pragma once

#include "pushforward/masses/categories.hpp"
#include "pushforward/network/network.hpp"

namespace pushforward {

template <class Scalar>
class Masses {
 public:
  // make_network(ports) returns the network, whose groups are the columns.
  template <class MakeNetwork>
  Masses(std::vector<Category> categories, Index context, MakeNetwork&& make_network)
      : categories_(std::move(categories)),
        context_(context),
        first_inputs_(sums([](const Category& category) { return category.inputs(); })),
        first_outputs_(sums([](const Category& category) { return category.count; })),
        network_(make_network(ports())) {
    for (auto& block : network_.parameters()) {
      block.name = "conditioner." + block.name;
      blocks_.push_back(std::move(block));
    }
  }

  Index columns() const { return static_cast<Index>(categories_.size()); }
  Index context() const { return context_; }
  const std::vector<Category>& categories() const { return categories_; }
  const Category& category(Index column) const { return categories_[static_cast<std::size_t>(column)]; }
  const Network<Scalar>& network() const { return network_; }

  // The first of the network's inputs that are a column's, and of its outputs. The context comes before all columns'.
  Index first_input(Index column) const { return context_ + first_inputs_[static_cast<std::size_t>(column)]; }
  Index first_output(Index column) const { return first_outputs_[static_cast<std::size_t>(column)]; }
  Index outputs() const { return first_output(columns()); }

  const std::vector<ParameterBlock>& parameter_blocks() const { return blocks_; }
  Index parameter_count() const { return network_.parameter_count(); }
  // Zero until they are allocated, once their number is known to be right.
  void allocate() { parameters_.setZero(parameter_count()); }
  Scalar* parameters() { return parameters_.data(); }
  const Scalar* parameters() const { return parameters_.data(); }

 private:
  // Sums of a number over the columns before each, and over all.
  template <class NumberOf>
  std::vector<Index> sums(NumberOf&& number_of) const {
    std::vector<Index> result{0};
    for (const Category& category : categories_) result.push_back(result.back() + number_of(category));
    return result;
  }

  // No column sees the last one.
  NetworkPorts ports() const {
    NetworkPorts ports{first_input(columns() - 1), {}, {}};
    for (Index column = 0; column < columns(); ++column) {
      ports.inputs_end.push_back(first_input(column));
      ports.outputs_end.push_back(first_output(column + 1));
    }
    return ports;
  }

  std::vector<Category> categories_;
  Index context_;
  std::vector<Index> first_inputs_, first_outputs_;
  Network<Scalar> network_;
  std::vector<ParameterBlock> blocks_;
  Eigen::Array<Scalar, Eigen::Dynamic, 1> parameters_;
};

}  // namespace pushforward
