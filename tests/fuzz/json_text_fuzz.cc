// Our strict reading of JSON against nlohmann's. They may differ only where we say so: a name that
// occurs twice, depth, and long exponents are refused by us alone, numbers beyond a double's range
// by nlohmann alone, and see below.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "coord/internal/json_text.h"
#include "nlohmann/json.hpp"

namespace {

// Accepts what the grammar accepts, and notes whether the only objection was to a number's range.
class Grammar : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool out_of_range = false;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::json::exception& error) override {
    out_of_range = error.id == 406;
    return false;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto fault = coord::internal::FindJsonFault(text);
  if (fault && fault->at > size) std::abort();
  // nlohmann skips a byte order mark, which RFC 8259 allows but does not ask for, and takes a zero
  // byte for the end.
  if (text.substr(0, 3) == "\xEF\xBB\xBF" || text.find('\0') != text.npos) {
    if (!fault) std::abort();
    return 0;
  }
  Grammar grammar;
  const bool accepted = nlohmann::json::sax_parse(text.begin(), text.end(), &grammar);
  if (grammar.out_of_range) return 0;
  const bool ours = !fault || !fault->grammar;
  // When a limit of ours stops the reading early, the rest may still break the grammar.
  if (fault && !fault->grammar) return 0;
  if (accepted != ours) {
    std::fprintf(stderr, "nlohmann %d, ours %d: %s\n", accepted, ours,
                 fault ? std::string(fault->why).c_str() : "no fault");
    std::abort();
  }
  return 0;
}
