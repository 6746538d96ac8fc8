// Tables of the parts that a description may name. Each kind of part (layer, transform, network, base, ...) has one
// table, beside the parts. A program may add parts of its own before it loads a flow that names them.
#pragma once

#include <map>
#include <utility>

#include "pushforward/description/json.hpp"

namespace pushforward {

// Entry: what makes a part from its description.
template <class Entry>
class Registry {
 public:
  // what: the kind of part, for messages.
  Registry(std::string what, std::map<std::string, Entry> entries)
      : what_(std::move(what)), entries_(std::move(entries)) {}

  // Not while another thread uses the table. std::invalid_argument if the name is taken.
  void add(const std::string& name, Entry entry) {
    if (!entries_.emplace(name, std::move(entry)).second)
      throw std::invalid_argument("there is a " + what_ + " " + json::quote(name) + " already");
  }

  bool has(const std::string& name) const { return entries_.count(name) > 0; }

  const Entry& at(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) throw std::invalid_argument("unknown " + what_ + " " + json::quote(name));
    return found->second;
  }

  // The entry for the "kind" of a description.
  const Entry& of(const Json& description) const { return at(json::string_member(description, "kind")); }

 private:
  std::string what_;
  std::map<std::string, Entry> entries_;
};

}  // namespace pushforward
