// The targets of a run: which are wanted, what came out, and whether that is enough.
#ifndef COORD_BENCH_REPORT_H_
#define COORD_BENCH_REPORT_H_

#include <cstdio>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "bench/machine.h"
#include "bench/slice.h"

namespace coord::bench {

struct Bound {
  enum class Kind { kNone, kAtLeast, kAtMost } kind = Kind::kNone;
  double limit = 0;

  static Bound AtLeast(double limit) { return {Kind::kAtLeast, limit}; }
  static Bound AtMost(double limit) { return {Kind::kAtMost, limit}; }

  bool Met(double value) const;
  std::string ToString() const;  // ">= 2.0"; "-" for none
};

class Report {
 public:
  // `filter`: a regular expression that is looked for in the ids; throws std::regex_error. Results
  // are shown on `out` as they come.
  Report(const std::string& filter, std::FILE* out) : filter_(filter), out_(out) {}

  bool Wants(std::string_view id) const;

  // `details` is one line for people, and the same as JSON.
  void Add(std::string_view id, Mode mode, double value, Bound bound, std::string_view line,
           nlohmann::ordered_json details);
  // The median of the rounds' ratios.
  void Add(std::string_view id, Mode mode, const Comparison& comparison, Bound bound,
           std::string_view a_name);
  void Skip(std::string_view id, std::string_view why);

  bool empty() const { return results_.empty(); }
  std::string Table() const;
  nlohmann::ordered_json ToJson(nlohmann::ordered_json machine) const;

 private:
  struct Result {
    std::string id;
    Mode mode;
    double value;
    Bound bound;
    nlohmann::ordered_json details;
  };

  const std::regex filter_;
  std::FILE* const out_;
  std::vector<Result> results_;
};

}  // namespace coord::bench

#endif  // COORD_BENCH_REPORT_H_
