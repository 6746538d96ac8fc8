// A density over the rows of a table with categories, whole numbers, dates and gaps: loaded from a file, and scored.
#pragma once

#include <variant>

#include "pushforward/flow.hpp"
#include "pushforward/masses/calls.hpp"
#include "pushforward/model/make_masses.hpp"
#include "pushforward/tables/coding.hpp"

#ifdef PUSHFORWARD_COMPILED
namespace pushforward {
extern template class Network<float>;
extern template class Network<double>;
extern template Registry<MakeNetwork<float>>& networks<float>();
extern template Registry<MakeNetwork<double>>& networks<double>();
}  // namespace pushforward
#endif

namespace pushforward {

// With m the codes of a row's cells, and x_j its numbers that these leave open,
//   p(row) = P(m) prod_j p(x_j | m, x_i for i < j),
// where each factor of a number is a flow's. A number that is missing has no factor.
//
// Rows are numbers, one for each column, NaN where the cell is missing:
//   - of a category the index of its value in `categories`; of a boolean 0 or 1;
//   - of a date how many units have passed since 1970;
//   - of anything else the number itself.
class TableFlow {
 public:
  // A model that Python's TableFlow saved, from its file or from the bytes of one. Throws FileFormatError when the
  // content is not one, std::filesystem::filesystem_error when the file cannot be read.
  static TableFlow load(const std::filesystem::path& path) {
    const std::string bytes = read_file(path);
    try {
      return parse(bytes);
    } catch (const FileFormatError& error) {
      throw FileFormatError(path.string() + ": " + error.what());
    }
  }

  static TableFlow parse(std::string_view bytes) {
    try {
      FileContent file(bytes);
      return TableFlow(file);
    } catch (const std::invalid_argument& error) {
      throw FileFormatError(error.what());
    }
  }

  // In the order of a row's numbers.
  const std::vector<TableColumn>& columns() const { return columns_; }

  // The log mass of each row's codes and the log density of its numbers, in nats. It is -infinity for a row with a
  // value that its column does not have, or a gap in a column without gaps, and NaN for a row with infinity. The views
  // are row-major: rows (n, columns().size()), log_prob (n,).
  void log_prob(Span<const double> rows, Span<double> log_prob, int threads = default_threads()) const {
    const auto width = static_cast<Index>(columns_.size());
    const Index count = spans::rows_of(rows, width, "rows");
    spans::expect_size(log_prob, count, "log_prob");
    spans::expect_apart(log_prob, rows);
    if (threads < 1) throw std::invalid_argument("a call needs threads >= 1");
    for (Index first = 0; first < count; first += kPiece)
      score(rows.data() + first * width, std::min(kPiece, count - first), log_prob.data() + first, threads);
  }

 private:
  static constexpr Index kPiece = 1 << 12;  // rows that are scored at a time
  static constexpr double kImpossible = -std::numeric_limits<double>::infinity();

  using Cell = tables::Cell;
  using Part = std::vector<const Cell*>;  // rows, by their first cell

  // The flow of a column of numbers, and how many numbers it reads.
  struct Number {
    std::size_t column;
    Index context;
    Flow<double> flow;
  };

  explicit TableFlow(FileContent& file) {
    const Json& content = file.json();
    if (!content.contains("table"))
      throw std::invalid_argument("it holds no model of a table; a flow is loaded by Flow::load");
    const Json& table = content["table"];
    json::expect_names(table, {"schema", "library", "summaries", "masses", "masses_history", "flows", "progress"});
    json::string_member(table, "library");
    for (const char* name : {"masses_history", "progress"})
      if (!json::member(table, name).is_null() && !table[name].is_object())
        throw std::invalid_argument(std::string("'") + name + "' is not an object");
    read_columns(json::member(table, "schema"), json::member(table, "summaries"));
    read_flows(json::array_member(table, "flows"), file.tensors().take_parts("flows"));
    read_masses(json::member(table, "masses"), file.tensors());
    file.tensors().expect_all_taken();
  }

  void read_columns(const Json& schema, const Json& summaries) {
    json::expect_names(schema, {"columns", "left_out"});
    std::set<std::string> names;
    for (const Json& entry : json::array_member(schema, "columns")) {
      columns_.push_back(tables::read_column(entry));
      const TableColumn& column = columns_.back();
      if (!names.insert(column.name).second) throw std::invalid_argument("two columns are " + json::quote(column.name));
      const auto summary = summaries.find(column.name);  // the end if `summaries` is not an object
      if (summary == summaries.end()) throw std::invalid_argument("no summary of " + json::quote(column.name));
      try {
        codings_.emplace_back(column, *summary);
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("column " + json::quote(column.name) + ": " + error.what());
      }
    }
    if (columns_.empty()) throw std::invalid_argument("a schema without columns");
    if (summaries.size() != columns_.size()) throw std::invalid_argument("a summary of a column that is not there");
    for (const Json& name : json::array_member(schema, "left_out"))
      if (!name.is_string() || !names.insert(name.get<std::string>()).second)
        throw std::invalid_argument("'left_out' is not the names of other columns");
  }

  void read_flows(const Json& flows, std::map<std::string, Tensors> tensors) {
    std::size_t next = 0;
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      if (!codings_[column].axis()) continue;
      if (next == flows.size()) throw std::invalid_argument("'flows' has less flows than columns of numbers");
      const std::string number = std::to_string(next);
      try {
        Flow<double> flow = Flow<double>::read({flows[next++], std::move(tensors[number])});
        expect_fit(flow, column);
        const Index context = flow.context();
        numbers_.push_back({column, context, std::move(flow)});
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("column " + json::quote(columns_[column].name) + ": " + error.what());
      }
      tensors.erase(number);
    }
    if (next != flows.size()) throw std::invalid_argument("'flows' has more flows than columns of numbers");
    if (!tensors.empty())
      throw std::invalid_argument("unexpected tensors of flow " + json::quote(tensors.begin()->first));
  }

  void expect_fit(const Flow<double>& flow, std::size_t column) const {
    const tables::Axis::Line line = codings_[column].axis()->support();
    const FeatureSupport& support = flow.support().front();
    if (flow.dim() != 1 || support.kind != line.kind || support.low != line.low || support.high != line.high)
      throw std::invalid_argument("its flow does not fit the schema");
    Index width = 0;
    for (std::size_t i = 0; i < codings_.size(); ++i) width += codings_[i].width(i == column, i > column);
    if (flow.context() != width) throw std::invalid_argument("its flow reads another number of columns");
  }

  void read_masses(const Json& description, Tensors& tensors) {
    for (std::size_t i = 0; i < codings_.size(); ++i)
      if (codings_[i].codes() > 1) coded_.push_back(i);
    if (coded_.empty() != description.is_null())
      throw std::invalid_argument(coded_.empty() ? "there are masses, but no column for them" : "'masses' is null");
    if (coded_.empty()) return;
    const std::string dtype = json::string_member(description, "dtype");
    if (dtype != "float32" && dtype != "float64") throw std::invalid_argument("unknown dtype " + json::quote(dtype));
    if (dtype == "float32")
      masses_ = read_masses<float>(description, tensors);
    else
      masses_ = read_masses<double>(description, tensors);
  }

  template <class Scalar>
  Masses<Scalar> read_masses(const Json& description, Tensors& tensors) const {
    Masses<Scalar> model = make_masses<Scalar>(description, tensors.value_count());
    bool fits = model.context() == 0 && model.columns() == static_cast<Index>(coded_.size());
    for (std::size_t i = 0; fits && i < coded_.size(); ++i)
      fits = model.category(static_cast<Index>(i)).count == codings_[coded_[i]].codes();
    if (!fits) throw std::invalid_argument("the masses are not those of the schema's columns");
    Scalar* to = model.parameters();
    for (const auto& block : model.parameter_blocks())
      to = tensors.take("masses." + block.name, block.shape, std::is_same_v<Scalar, double>, to);
    return model;
  }

  void score(const double* rows, Index count, double* log_prob, int threads) const {
    const std::size_t width = columns_.size();
    std::vector<Cell> cells(static_cast<std::size_t>(count) * width);
    Part known;  // the rows without a value that its column does not have
    for (Index row = 0; row < count; ++row) {
      Cell* to = cells.data() + static_cast<std::size_t>(row) * width;
      log_prob[row] = encode(rows + row * static_cast<Index>(width), to);
      if (log_prob[row] == 0) known.push_back(to);
    }
    const auto result_of = [&](const Cell* row) -> double& {
      return log_prob[static_cast<std::size_t>(row - cells.data()) / width];
    };
    std::visit([&](const auto& model) { add_masses(model, known, result_of, threads); }, masses_);
    for (const Cell* row : known)
      for (std::size_t i = 0; i < width; ++i) result_of(row) += codings_[i].log_share(row[i]);
    for (const Number& number : numbers_) {
      Part open;
      for (const Cell* row : known)
        if (codings_[number.column].is_open(row[number.column])) open.push_back(row);
      const std::vector<double> density = densities(number, open, threads);
      for (std::size_t i = 0; i < open.size(); ++i) result_of(open[i]) += density[i];
    }
  }

  // Writes the cells of a row. Returns 0, or its log density if that is already known.
  double encode(const double* row, Cell* cells) const {
    double result = 0;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (std::isinf(row[i])) return std::numeric_limits<double>::quiet_NaN();
      cells[i] = codings_[i].encode(row[i]);
      if (cells[i].code == tables::Coding::kUnknown) result = kImpossible;
    }
    return result;
  }

  template <class ResultOf>
  void add_masses(const std::monostate&, const Part&, const ResultOf&, int) const {}

  template <class Scalar, class ResultOf>
  void add_masses(const Masses<Scalar>& model, const Part& rows, const ResultOf& result_of, int threads) const {
    const auto width = static_cast<Index>(coded_.size());
    std::vector<double> codes, log_masses(rows.size());
    codes.reserve(rows.size() * coded_.size());
    for (const Cell* row : rows)
      for (const std::size_t column : coded_) codes.push_back(row[column].code);
    const Table table{codes.data(), true, static_cast<Index>(rows.size()), width, width, 1, nullptr};
    masses::log_prob(model, table, nullptr, log_masses.data(), threads);
    for (std::size_t i = 0; i < rows.size(); ++i) result_of(rows[i]) += log_masses[i];
  }

  // The log densities, or log masses, of the values of one column in rows that have one.
  std::vector<double> densities(const Number& number, const Part& rows, int threads) const {
    const tables::Axis& axis = *codings_[number.column].axis();
    std::vector<double> result(rows.size(), kImpossible);
    std::vector<std::size_t> inside;
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (axis.allows(rows[i][number.column].value)) inside.push_back(i);
    Part allowed;
    for (const std::size_t i : inside) allowed.push_back(rows[i]);
    const std::vector<double> found = axis.is_rounded() ? cell_masses(number, axis, allowed, threads)
                                                        : point_densities(number, axis, allowed, threads);
    for (std::size_t i = 0; i < inside.size(); ++i) result[inside[i]] = found[i];
    return result;
  }

  std::vector<double> point_densities(const Number& number, const tables::Axis& axis, const Part& rows,
                                      int threads) const {
    std::vector<double> points;
    for (const Cell* row : rows) points.push_back(axis.point(row[number.column].value));
    return densities_at(number, axis, std::move(points), rows, threads);
  }

  std::vector<double> cell_masses(const Number& number, const tables::Axis& axis, const Part& rows, int threads) const {
    std::vector<double> cells, ends;
    for (const Cell* row : rows) cells.push_back(axis.cell(row[number.column].value));
    const std::vector<double> low = latents(number, axis, cells, rows, threads);
    for (const double cell : cells) ends.push_back(cell + 1);
    const std::vector<double> high = latents(number, axis, ends, rows, threads);
    std::vector<double> result(rows.size());
    std::vector<std::size_t> lost;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      result[i] = axis.log_mass(low[i], high[i]);
      if (std::isnan(result[i])) lost.push_back(i);
    }
    // The density in the middle of a cell whose mass has lost its digits.
    std::vector<double> middles;
    Part of_lost;
    for (const std::size_t i : lost) {
      middles.push_back(cells[i] + 0.5);
      of_lost.push_back(rows[i]);
    }
    const std::vector<double> density = densities_at(number, axis, std::move(middles), of_lost, threads);
    for (std::size_t i = 0; i < lost.size(); ++i) result[lost[i]] = axis.in_cell(density[i]);
    return result;
  }

  // The flow's latent points of points of the line, infinite at its ends.
  std::vector<double> latents(const Number& number, const tables::Axis& axis, const std::vector<double>& points,
                              const Part& rows, int threads) const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    std::vector<double> x, z(points.size());
    for (const double point : points)
      x.push_back(axis.to_flow(axis.is_low_end(point) || axis.is_high_end(point) ? 0.5 : point));
    number.flow.inverse(x, z, {}, context_of(number, rows), threads);
    for (std::size_t i = 0; i < z.size(); ++i)
      z[i] = axis.is_high_end(points[i]) ? kInfinity : axis.is_low_end(points[i]) ? -kInfinity : z[i];
    return z;
  }

  // The log densities at points of the line, by the points.
  std::vector<double> densities_at(const Number& number, const tables::Axis& axis, std::vector<double> points,
                                   const Part& rows, int threads) const {
    std::vector<double> slopes, density(points.size());
    for (double& point : points) {
      slopes.push_back(axis.log_slope(point));
      point = axis.to_flow(point);
    }
    number.flow.log_prob(points, density, context_of(number, rows), threads);
    for (std::size_t i = 0; i < points.size(); ++i) density[i] += slopes[i];
    return density;
  }

  // What the flow of a number reads of rows: the codes of all columns, and the numbers that they leave known.
  std::vector<double> context_of(const Number& number, const Part& rows) const {
    std::vector<double> context(rows.size() * static_cast<std::size_t>(number.context));
    double* to = context.data();
    for (const Cell* row : rows)
      for (std::size_t i = 0; i < codings_.size(); ++i)
        to = codings_[i].show(row[i], i == number.column, i > number.column, to);
    return context;
  }

  std::vector<TableColumn> columns_;
  std::vector<tables::Coding> codings_;
  std::vector<Number> numbers_;
  std::vector<std::size_t> coded_;  // the columns with more than one code
  std::variant<std::monostate, Masses<float>, Masses<double>> masses_;
};

}  // namespace pushforward
