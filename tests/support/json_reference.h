// What a change must make of a JSON document, worked out without the library: what the texts mean
// as nlohmann reads them, and which bytes go where from a plain walk along the text.
#ifndef COORD_TESTS_SUPPORT_JSON_REFERENCE_H_
#define COORD_TESTS_SUPPORT_JSON_REFERENCE_H_

#include <optional>
#include <string>
#include <string_view>

#include "coord/json_document.h"
#include "tests/support/json_maker.h"

namespace coord::testing {

// What a JSON text means: numbers to their last digit, every member of an object, in order. Ends
// the test program when nlohmann does not take it for JSON.
JsonNode ReadJson(std::string_view text);

// Whether two values are the same, by the rules of json_document.h.
bool SameJson(const JsonNode& a, const JsonNode& b);
// The same, and all members in the same order.
bool IdenticalJson(const JsonNode& a, const JsonNode& b);
// Whether an object somewhere in it has a name twice.
bool RepeatsAName(const JsonNode& node);

struct JsonExpectation {
  CasResult result;
  std::string refused;               // not empty: what the error says, in place of `result`
  std::optional<std::string> after;  // the document afterwards, byte for byte
  JsonNode meaning;                  // what that means, by what the changes mean
};

// Of a stored document that is JSON, at most 128 levels deep, and a change that the library takes.
JsonExpectation ExpectJson(const std::optional<std::string>& stored, const JsonChange& change);

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_JSON_REFERENCE_H_
