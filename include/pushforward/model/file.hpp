// A model's file: safetensors, with the model's description as JSON in its metadata. Everything is checked before it is
// used, and memory stays within a multiple of the file's size. Errors are std::invalid_argument here; Flow::parse,
// Ensemble::parse and TableFlow::parse turn them into FileFormatError.
#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include "pushforward/data/support.hpp"
#include "pushforward/description/json.hpp"
#include "pushforward/error.hpp"

namespace pushforward {

#ifdef __BYTE_ORDER__  // of GCC and Clang; MSVC knows no other order
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are copied out of a file as they are");
#endif

inline std::string read_file(const std::filesystem::path& path) {
  std::string bytes(std::filesystem::file_size(path), '\0');
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file)
    throw std::filesystem::filesystem_error("cannot read the file", path,
                                            std::error_code(errno ? errno : EIO, std::generic_category()));
  return bytes;
}

struct Tensor {
  bool is_double;
  std::vector<Index> shape;
  Index count;
  const char* data;
};

// Tensors by name. Each can be taken once. A view: the bytes must outlive it.
class Tensors {
 public:
  void add(const std::string& name, Tensor tensor) { tensors_.emplace(name, std::move(tensor)); }

  bool has(const std::string& name) const { return tensors_.find(name) != tensors_.end(); }

  Tensor take(const std::string& name, const std::vector<Index>& shape, bool is_double) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::invalid_argument("tensor " + json::quote(name) + " is missing");
    if (found->second.shape != shape || found->second.is_double != is_double)
      throw std::invalid_argument("tensor " + json::quote(name) + " is not " + text_of(shape, is_double));
    Tensor tensor = std::move(found->second);
    tensors_.erase(found);
    return tensor;
  }

  // Copies a tensor, converted to Scalar, and returns the end of the copy.
  template <class Scalar>
  Scalar* take(const std::string& name, const std::vector<Index>& shape, bool is_double, Scalar* to) {
    const Tensor tensor = take(name, shape, is_double);
    return tensor.is_double ? copy<double>(name, tensor, to) : copy<float>(name, tensor, to);
  }

  // Tensors may start at any byte.
  template <class Stored, class Scalar>
  static Scalar* copy(const std::string& name, const Tensor& tensor, Scalar* to) {
    for (Index i = 0; i < tensor.count; ++i) {
      Stored value;
      std::memcpy(&value, tensor.data + static_cast<std::size_t>(i) * sizeof(Stored), sizeof(Stored));
      if (!(std::abs(value) <= std::numeric_limits<Scalar>::max()))
        throw std::invalid_argument("tensor " + json::quote(name) +
                                    " holds values that are not finite in this precision");
      *to++ = static_cast<Scalar>(value);
    }
    return to;
  }

  // Values in the tensors not taken so far.
  Index value_count() const {
    Index total = 0;
    for (const auto& entry : tensors_) total += entry.second.count;
    return total;
  }

  void expect_all_taken() const {
    if (!tensors_.empty()) throw std::invalid_argument("unexpected tensor " + json::quote(tensors_.begin()->first));
  }

  // Moves the tensors PREFIX.NUMBER.NAME into parts by NUMBER, under NAME. Other tensors stay.
  std::map<std::string, Tensors> take_parts(const std::string& prefix) {
    std::map<std::string, Tensors> parts;
    const std::string start = prefix + ".";
    for (auto entry = tensors_.lower_bound(start); entry != tensors_.end();) {
      const std::string& name = entry->first;
      if (name.compare(0, start.size(), start) != 0) break;
      const std::size_t dot = name.find('.', start.size());
      if (dot == std::string::npos) {
        ++entry;
        continue;
      }
      parts[name.substr(start.size(), dot - start.size())].add(name.substr(dot + 1), std::move(entry->second));
      entry = tensors_.erase(entry);
    }
    return parts;
  }

 private:
  static std::string text_of(const std::vector<Index>& shape, bool is_double) {
    std::string text = is_double ? "F64 [" : "F32 [";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
  }

  std::map<std::string, Tensor> tensors_;
};

// The content of a file: the JSON value in its metadata, and its tensors.
class FileContent {
 public:
  explicit FileContent(std::string_view bytes) {
    const std::string_view header_text = header_of(bytes);
    const Json header = json::parse(header_text, "the header");
    json_ = content_of(header);
    read_tensors(header, bytes.substr(kLengthBytes + header_text.size()));
  }

  const Json& json() const { return json_; }
  Tensors& tensors() { return tensors_; }
  // An ensemble's has members where a flow's has a model.
  bool is_ensemble() const { return json_.contains("members") && !json_.contains("model"); }

 private:
  static constexpr std::size_t kLengthBytes = 8;
  // The format's own limit.
  static constexpr std::uint64_t kLargestHeader = 100'000'000;

  static std::string_view header_of(std::string_view bytes) {
    if (bytes.size() < kLengthBytes) throw std::invalid_argument("not a safetensors file: it has no header");
    std::uint64_t length = 0;
    for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(bytes[i]);
    if (length > kLargestHeader || length > bytes.size() - kLengthBytes)
      throw std::invalid_argument("not a safetensors file, or the end of its header is missing");
    const auto header = bytes.substr(kLengthBytes, static_cast<std::size_t>(length));
    if (header.empty() || header.front() != '{') throw std::invalid_argument("not a safetensors file: no JSON header");
    return header;
  }

  // The JSON value in the metadata, of a format that this version reads.
  static Json content_of(const Json& header) {
    const auto metadata = header.find("__metadata__");
    if (metadata == header.end() || !metadata->is_object() || !metadata->contains("pushforward"))
      throw std::invalid_argument("a safetensors file, but not a pushforward file");
    Json content = json::parse(json::string_member(*metadata, "pushforward"), "the description");
    const Index format = json::integer_member(content, "format", 1);
    const std::string version = json::string_member(content, "version");
    if (format > limits::kFileFormat)
      throw std::invalid_argument("written in format " + std::to_string(format) + " by pushforward " +
                                  json::quote(version) + "; this version reads up to format " +
                                  std::to_string(limits::kFileFormat) + ": update it");
    return content;
  }

  void read_tensors(const Json& header, std::string_view data) {
    std::vector<std::pair<std::size_t, std::size_t>> spans;
    for (const auto& entry : header.items()) {
      if (entry.key() == "__metadata__") continue;
      try {
        spans.push_back(read_tensor(entry.key(), entry.value(), data));
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("tensor " + json::quote(entry.key()) + ": " + error.what());
      }
    }
    std::sort(spans.begin(), spans.end());
    std::size_t end = 0;
    for (const auto& span : spans) {
      if (span.first != end) throw std::invalid_argument("tensors overlap or leave a gap");
      end = span.second;
    }
    if (end != data.size()) throw std::invalid_argument("bytes that belong to no tensor");
  }

  std::pair<std::size_t, std::size_t> read_tensor(const std::string& name, const Json& entry, std::string_view data) {
    constexpr Index kMost = std::numeric_limits<Index>::max();
    const std::string dtype = json::string_member(entry, "dtype");
    json::expect_names(entry, {"dtype", "shape", "data_offsets"});
    if (dtype != "F32" && dtype != "F64")
      throw std::invalid_argument("dtype " + json::quote(dtype) + "; F32 or F64 is expected");
    const bool is_double = dtype == "F64";
    const auto shape = json::integers_member(entry, "shape", 0, kMost);
    Index count = 1;
    for (const Index extent : shape) {
      if (extent > 0 && count > kMost / extent) throw std::invalid_argument("its size overflows");
      count *= extent;
    }
    const auto offsets = json::integers_member(entry, "data_offsets", 0, kMost);
    if (offsets.size() != 2 || offsets[0] > offsets[1]) throw std::invalid_argument("'data_offsets' is no range");
    const auto begin = static_cast<std::size_t>(offsets[0]), end = static_cast<std::size_t>(offsets[1]);
    if (end > data.size()) throw std::invalid_argument("the file ends before its data");
    const std::size_t item = is_double ? sizeof(double) : sizeof(float);
    if ((end - begin) % item != 0 || (end - begin) / item != static_cast<std::size_t>(count))
      throw std::invalid_argument("'data_offsets' does not fit dtype and shape");
    tensors_.add(name, Tensor{is_double, shape, count, data.data() + begin});
    return {begin, end};
  }

  Json json_;
  Tensors tensors_;
};

struct Standardization {
  std::vector<double> shift, scale;
  std::vector<Cells> cells;  // at the bounds of supports; none if the file has none
};

// One flow of a file: its description and its tensors, of which each can be taken once.
class ModelFile {
 public:
  // content: a file's, or that of one member of an ensemble's.
  ModelFile(const Json& content, Tensors tensors) : tensors_(std::move(tensors)) {
    if (content.contains("table"))
      throw std::invalid_argument("the model of a table with categories, which TableFlow::load reads");
    if (content.contains("checkpoint"))
      throw std::invalid_argument("a checkpoint of a fit: load it in Python, and save the flow");
    model_ = json::member(content, "model");
    const Index dim = json::integer_member(model_, "dim", 1), context = json::integer_member(model_, "context", 0);
    is_double_ = names_double(model_, "dtype");
    names_double(content, "data_dtype");
    if (!json::member(content, "initialized").is_boolean()) throw std::invalid_argument("'initialized' is not boolean");
    columns_ = columns_of(content, "columns", dim);
    context_columns_ = columns_of(content, "context_columns", context);
    const Json& training = json::member(content, "training");
    if (!training.is_null() && !training.is_object()) throw std::invalid_argument("'training' is not an object");
    // dim and context must be the lengths of tensors in the file before anything of their size is allocated.
    standardization_ = take_standardization("standardization", dim);
    if (tensors_.has(kCells)) standardization_.cells = take_cells(dim);
    if (context > 0) context_standardization_ = take_standardization("context_standardization", context);
  }

  const Json& model() const { return model_; }
  // Names of the features and of the conditioning features; empty if the file has none.
  const std::vector<std::string>& columns() const { return columns_; }
  const std::vector<std::string>& context_columns() const { return context_columns_; }
  const Standardization& standardization() const { return standardization_; }
  const Standardization& context_standardization() const { return context_standardization_; }

  // Values in the tensors not taken so far.
  Index value_count() const { return tensors_.value_count(); }

  // Copies a parameter tensor, converted to Scalar, and returns the end of the copy.
  template <class Scalar>
  Scalar* take(const std::string& name, const std::vector<Index>& shape, Scalar* to) {
    return tensors_.take(name, shape, is_double_, to);
  }

  void expect_all_taken() const { tensors_.expect_all_taken(); }

 private:
  static bool names_double(const Json& object, const char* name) {
    const std::string dtype = json::string_member(object, name);
    if (dtype != "float32" && dtype != "float64") throw std::invalid_argument("unknown dtype " + json::quote(dtype));
    return dtype == "float64";
  }

  static std::vector<std::string> columns_of(const Json& content, const char* name, Index count) {
    const Json& columns = json::member(content, name);
    if (columns.is_null()) return {};
    const auto is_string = [](const Json& column) { return column.is_string(); };
    if (!columns.is_array() || columns.size() != static_cast<std::size_t>(count) ||
        !std::all_of(columns.begin(), columns.end(), is_string))
      throw std::invalid_argument(std::string("'") + name + "' is not one name per column");
    return columns.get<std::vector<std::string>>();
  }

  Standardization take_standardization(const std::string& name, Index width) {
    const Tensor shift = tensors_.take(name + ".shift", {width}, true),
                 scale = tensors_.take(name + ".scale", {width}, true);
    const std::vector<double> zeros(static_cast<std::size_t>(width));
    Standardization taken{zeros, zeros, {}};
    Tensors::copy<double>(name + ".shift", shift, taken.shift.data());
    Tensors::copy<double>(name + ".scale", scale, taken.scale.data());
    return taken;
  }

  std::vector<Cells> take_cells(Index dim) {
    std::vector<double> ends(2 * static_cast<std::size_t>(dim));
    tensors_.take(kCells, {dim, 2}, true, ends.data());
    std::vector<Cells> cells;
    for (std::size_t i = 0; i < ends.size(); i += 2) cells.push_back({ends[i], ends[i + 1]});
    return cells;
  }

  static constexpr const char* kCells = "standardization.cells";

  Tensors tensors_;
  Json model_;
  std::vector<std::string> columns_, context_columns_;
  bool is_double_ = false;  // the parameters
  Standardization standardization_, context_standardization_;
};

}  // namespace pushforward
