#include "bench/report.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace coord::bench {
namespace {

using Json = nlohmann::ordered_json;

std::string Format(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

std::string Padded(std::string_view text, std::size_t width) {
  std::string out(text);
  out.resize(std::max(width, out.size()), ' ');
  return out;
}

// JSON that a person can read: no 17 digits.
double Rounded(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

double MedianOf(const std::vector<Slice>& slices, double Slice::*field) {
  std::vector<double> values;
  values.reserve(slices.size());
  for (const Slice& slice : slices) values.push_back(slice.*field);
  return Median(std::move(values));
}

Json Side(std::string_view name, const std::vector<Slice>& slices) {
  return {{"name", name},
          {"per_second", std::round(MedianOf(slices, &Slice::per_second))},
          {"p50_us", Rounded(MedianOf(slices, &Slice::p50_us), 1)},
          {"p99_us", Rounded(MedianOf(slices, &Slice::p99_us), 1)}};
}

std::string Line(const Json& side) {
  return side["name"].get<std::string>() + " " +
         Format("%.0f/s", side["per_second"].get<double>()) +
         Format(" (p50 %.1f", side["p50_us"].get<double>()) +
         Format(", p99 %.1f us)", side["p99_us"].get<double>());
}

}  // namespace

// Compared as it is shown: nobody should read "2.00, bound 2.0, short".
bool Bound::Met(double value) const {
  const double shown = Rounded(value, 2);
  switch (kind) {
    case Kind::kAtLeast:
      return shown >= limit - 1e-9;
    case Kind::kAtMost:
      return shown <= limit + 1e-9;
    case Kind::kNone:
      break;
  }
  return true;
}

std::string Bound::ToString() const {
  if (kind == Kind::kNone) return "-";
  return (kind == Kind::kAtLeast ? ">= " : "<= ") + Format("%.2f", limit);
}

bool Report::Wants(std::string_view id) const {
  return std::regex_search(id.begin(), id.end(), filter_);
}

void Report::Add(std::string_view id, Mode mode, double value, Bound bound, std::string_view line,
                 Json details) {
  const std::string verdict = bound.kind == Bound::Kind::kNone ? ""
                              : bound.Met(value)               ? ", met"
                                                               : ", short";
  std::fprintf(out_, "%.*s: %.2f (%s%s)\n    %.*s\n", static_cast<int>(id.size()), id.data(), value,
               bound.ToString().c_str(), verdict.c_str(), static_cast<int>(line.size()),
               line.data());
  std::fflush(out_);
  results_.push_back({std::string(id), mode, value, bound, std::move(details)});
}

void Report::Add(std::string_view id, Mode mode, const Comparison& comparison, Bound bound,
                 std::string_view a_name) {
  const double low = Quantile(comparison.ratios, 0);
  const double high = Quantile(comparison.ratios, 1);
  Json a = Side(a_name, comparison.a);
  Json b = Side("coord", comparison.b);
  const std::string line =
      Line(b) + "; " + Line(a) +
      Format("; %.0f rounds, ratio ", static_cast<double>(comparison.ratios.size())) +
      Format("%.2f to ", low) + Format("%.2f", high);
  Add(id, mode, Median(comparison.ratios), bound, line,
      {{"a", std::move(a)},
       {"b", std::move(b)},
       {"rounds", comparison.ratios.size()},
       {"ratio_min", Rounded(low, 3)},
       {"ratio_max", Rounded(high, 3)}});
}

void Report::Skip(std::string_view id, std::string_view why) {
  std::fprintf(out_, "%.*s: skipped, %.*s\n", static_cast<int>(id.size()), id.data(),
               static_cast<int>(why.size()), why.data());
}

std::string Report::Table() const {
  std::size_t width = 2;
  for (const Result& result : results_) width = std::max(width, result.id.size());
  std::string table = Padded("id", width) + "  mode       value      bound  met\n";
  for (const Result& result : results_) {
    const bool bounded = result.bound.kind != Bound::Kind::kNone;
    char row[128];
    std::snprintf(row, sizeof(row), "  %-5s %10.2f %10s  %s\n",
                  std::string(ModeName(result.mode)).c_str(), result.value,
                  result.bound.ToString().c_str(),
                  !bounded                         ? "-"
                  : result.bound.Met(result.value) ? "met"
                                                   : "short");
    table += Padded(result.id, width) + row;
  }
  return table;
}

// What has no bound is no target: it stands among the details alone.
Json Report::ToJson(Json machine) const {
  Json targets = Json::array();
  Json details = Json::object();
  for (const Result& result : results_) {
    const double value = Rounded(result.value, 4);
    if (result.bound.kind != Bound::Kind::kNone) {
      targets.push_back({{"id", result.id},
                         {"mode", ModeName(result.mode)},
                         {"value", value},
                         {"bound", result.bound.ToString()},
                         {"met", result.bound.Met(result.value)}});
    }
    Json detail = {{"mode", ModeName(result.mode)}, {"value", value}};
    detail.update(result.details);
    details[result.id] = std::move(detail);
  }
  return {{"machine", std::move(machine)},
          {"targets", std::move(targets)},
          {"details", std::move(details)}};
}

}  // namespace coord::bench
