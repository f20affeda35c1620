#include "tests/support/json_reference.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "coord/internal/strings.h"
#include "tests/support/fatal.h"

namespace coord::testing {
namespace {

using internal::StrCat;
using Operator = JsonTest::Operator;

// Before a number in a string: nlohmann takes no number beyond the doubles, so it is shown those as
// strings.
constexpr std::string_view kNumberMark = "\x01#";

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

JsonNode Make(JsonNode::Kind kind, std::string_view word) {
  JsonNode node;
  node.kind = kind;
  node.word = word;
  return node;
}

JsonNode NumberOf(std::string_view text) {
  JsonNode node = Make(JsonNode::kNumber, "");
  node.negative = text.starts_with('-');
  if (node.negative) text.remove_prefix(1);
  const std::size_t e = text.find_first_of("eE");
  if (e != text.npos) node.exponent = std::stoi(std::string(text.substr(e + 1)));
  text = text.substr(0, e);
  const std::size_t point = text.find('.');
  node.word = text.substr(0, point);
  if (point != text.npos) {
    node.word += text.substr(point + 1);
    node.exponent -= static_cast<int>(text.size() - point - 1);
  }
  node.word.erase(0, node.word.find_first_not_of('0'));
  while (node.word.ends_with('0')) {
    node.word.pop_back();
    ++node.exponent;
  }
  return node.word.empty() ? Make(JsonNode::kNumber, "0") : node;
}

// nlohmann's events as a tree: its own would lose repeated names and digits.
class Builder {
 public:
  bool null() { return Add(Make(JsonNode::kWord, "null")); }
  bool boolean(bool value) { return Add(Make(JsonNode::kWord, value ? "true" : "false")); }
  bool number_integer(std::int64_t value) { return Add(NumberOf(std::to_string(value))); }
  bool number_unsigned(std::uint64_t value) { return Add(NumberOf(std::to_string(value))); }
  bool number_float(double, const std::string& text) { return Add(NumberOf(text)); }
  bool string(std::string& text) {
    if (text.starts_with(kNumberMark)) return Add(NumberOf(text.substr(kNumberMark.size())));
    return Add(Make(JsonNode::kString, text));
  }
  bool binary(nlohmann::json::binary_t&) { return false; }
  bool start_object(std::size_t) { return Open(JsonNode::kObject); }
  bool start_array(std::size_t) { return Open(JsonNode::kArray); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool key(std::string& name) {
    open_.back().names.push_back(name);
    return true;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::json::exception& why) {
    error_ = StrCat(why.what(), " at ", at);
    return false;
  }

  const std::string& error() const { return error_; }
  JsonNode& root() { return root_; }

 private:
  bool Add(JsonNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
    } else {
      open_.back().children.push_back(std::move(node));
    }
    return true;
  }
  bool Open(JsonNode::Kind kind) {
    open_.push_back(Make(kind, ""));
    return true;
  }
  bool Close() {
    JsonNode node = std::move(open_.back());
    open_.pop_back();
    return Add(std::move(node));
  }

  std::vector<JsonNode> open_;
  JsonNode root_;
  std::string error_;
};

// Behind the string that begins at i.
std::size_t PastString(std::string_view text, std::size_t i) {
  for (++i; text[i] != '"'; ++i) {
    if (text[i] == '\\') ++i;
  }
  return i + 1;
}

std::size_t PastScalar(std::string_view text, std::size_t i) {
  if (text[i] == '"') return PastString(text, i);
  while (i < text.size() && !IsSpace(text[i]) && text[i] != ',' && text[i] != ']' &&
         text[i] != '}') {
    ++i;
  }
  return i;
}

// Where a value stands: as the nodes of the tree, in the same order.
struct Extent {
  std::size_t start = 0, end = 0;
  std::size_t tail = 0;             // of containers: behind the last child, or the opening bracket
  std::vector<std::size_t> begins;  // of the children, with their names
  std::vector<Extent> children;
};

std::size_t PastSpace(std::string_view text, std::size_t i) {
  while (i < text.size() && IsSpace(text[i])) ++i;
  return i;
}

Extent Walk(std::string_view text, std::size_t start) {
  Extent extent;
  extent.start = start;
  if (text[start] != '{' && text[start] != '[') {
    extent.end = PastScalar(text, start);
    return extent;
  }
  std::size_t i = extent.tail = start + 1;
  for (;;) {
    i = PastSpace(text, i);
    if (text[i] == '}' || text[i] == ']') break;
    if (text[i] == ',') i = PastSpace(text, i + 1);
    extent.begins.push_back(i);
    if (text[start] == '{') i = PastSpace(text, PastSpace(text, PastString(text, i)) + 1);
    extent.children.push_back(Walk(text, i));
    i = extent.tail = extent.children.back().end;
  }
  extent.end = i + 1;
  return extent;
}

// A place in the tree by the numbers of the children on the way.
struct Location {
  std::string refused;
  std::vector<std::size_t> steps;  // as far as it is there
  bool found = false;
  bool addable = false;  // all but the last token is there, and it may be added
  std::string name;      // of the member to be added
};

constexpr char kRepeats[] = "repeats a name";
constexpr char kDash[] = "has the path token \"-\" for an array";
constexpr char kNowhere[] = "a path whose parent";

Location Locate(const JsonNode& root, std::string_view path, bool adding) {
  Location location;
  const JsonNode* node = &root;
  bool repeated = false;
  location.found = true;
  while (!path.empty() && location.found) {
    path.remove_prefix(1);
    std::string token(path.substr(0, path.find('/')));
    path.remove_prefix(token.size());
    for (std::size_t i = token.find('~'); i != token.npos; i = token.find('~', i + 1)) {
      token.replace(i, 2, token[i + 1] == '1' ? "/" : "~");
    }
    location.found = false;
    if (node->kind == JsonNode::kObject) {
      const auto first = std::find(node->names.begin(), node->names.end(), token);
      if (first == node->names.end()) {
        location.addable = path.empty();
        location.name = token;
        break;
      }
      repeated = repeated || std::find(first + 1, node->names.end(), token) != node->names.end();
      location.found = true;
      location.steps.push_back(static_cast<std::size_t>(first - node->names.begin()));
    } else if (node->kind == JsonNode::kArray) {
      if (token == "-") {
        if (!adding) {
          location.refused = kDash;
          return location;
        }
        location.addable = path.empty();
        break;
      }
      for (std::size_t i = 0; i < node->children.size(); ++i) {
        if (token != std::to_string(i)) continue;
        location.found = true;
        location.steps.push_back(i);
      }
    }
    if (location.found) node = &node->children[location.steps.back()];
  }
  if (repeated) location.refused = kRepeats;
  return location;
}

template <typename Node>
Node& At(Node& root, const std::vector<std::size_t>& steps) {
  Node* node = &root;
  for (const std::size_t step : steps) node = &node->children[step];
  return *node;
}

// -1, 0 or 1: both are written out to the same last place.
int CompareNumbers(const JsonNode& a, const JsonNode& b) {
  const auto sign = [](const JsonNode& x) { return x.word == "0" ? 0 : x.negative ? -1 : 1; };
  if (sign(a) != sign(b)) return sign(a) < sign(b) ? -1 : 1;
  const int last = std::min(a.exponent, b.exponent);
  const auto digits = [&](const JsonNode& x) {
    return x.word + std::string(static_cast<std::size_t>(x.exponent - last), '0');
  };
  const std::string x = digits(a), y = digits(b);
  const int order = x.size() != y.size() ? (x.size() < y.size() ? -1 : 1)
                    : x == y             ? 0
                    : x < y              ? -1
                                         : 1;
  return order * sign(a);
}

bool Less(const JsonNode& a, const JsonNode& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == JsonNode::kNumber) return CompareNumbers(a, b) < 0;
  return a.kind == JsonNode::kString && a.word < b.word;
}

// Whether the test holds, or why the library must refuse to say.
struct Verdict {
  bool holds = false;
  std::string refused;
};

Verdict Judge(const JsonTest& test, const std::optional<std::string>& current) {
  const bool negated = test.op == Operator::kNotEquals;
  if (!current || !test.expected) {
    return {(current.has_value() == test.expected.has_value()) != negated, ""};
  }
  if (test.op == Operator::kSameText) return {*current == *test.expected, ""};
  if (test.op == Operator::kEquals && *current == *test.expected) return {true, ""};
  const JsonNode mine = ReadJson(*current), other = ReadJson(*test.expected);
  if (RepeatsAName(mine)) return {false, kRepeats};
  if (test.op == Operator::kLess) return {Less(mine, other), ""};
  if (test.op == Operator::kGreater) return {Less(other, mine), ""};
  return {SameJson(mine, other) != negated, ""};
}

// As the library spells a name that it writes.
std::string Spelled(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') {
      text += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kDigits[] = "0123456789abcdef";
      text += {'\\', 'u', '0', '0', kDigits[c / 16], kDigits[c % 16]};
    } else {
      text += c;
    }
  }
  return text + "\"";
}

// Does one assignment to the text and to the tree; returns why not.
std::string Assign(const JsonAssignment& assignment, std::string& text, JsonNode& root) {
  if (assignment.path.empty()) {
    text = assignment.value.value_or("");
    if (assignment.value) root = ReadJson(text);
    return "";
  }
  const Location location = Locate(root, assignment.path, assignment.value.has_value());
  if (!location.refused.empty()) return location.refused;
  const Extent whole = Walk(text, PastSpace(text, 0));
  const std::string_view before = text;
  std::vector<std::size_t> parent = location.steps;
  if (location.found) parent.pop_back();
  JsonNode& around = At(root, parent);
  const Extent& place = At(whole, parent);
  if (!assignment.value) {
    if (!location.found) return "";
    const std::size_t n = location.steps.back();
    std::size_t from = place.begins[n];
    std::size_t to = place.children[n].end;
    if (n + 1 < place.children.size()) {
      to = place.begins[n + 1];
    } else if (n > 0) {
      from = before.rfind(',', from);  // only white space is between
    }
    text = StrCat(before.substr(0, from), before.substr(to));
    around.children.erase(around.children.begin() + static_cast<std::ptrdiff_t>(n));
    if (!around.names.empty()) {
      around.names.erase(around.names.begin() + static_cast<std::ptrdiff_t>(n));
    }
    return "";
  }
  JsonNode value = ReadJson(*assignment.value);
  if (location.found) {
    const std::size_t n = location.steps.back();
    const Extent& old = place.children[n];
    text = StrCat(before.substr(0, old.start), *assignment.value, before.substr(old.end));
    around.children[n] = std::move(value);
    return "";
  }
  if (!location.addable) return kNowhere;
  const bool member = around.kind == JsonNode::kObject;
  text = StrCat(before.substr(0, place.tail), place.children.empty() ? "" : ",",
                member ? Spelled(location.name) + ":" : "", *assignment.value,
                before.substr(place.tail));
  if (member) around.names.push_back(location.name);
  around.children.push_back(std::move(value));
  return "";
}

// Whether the change makes a document where there is none.
bool Creates(const JsonChange& change) {
  if (change.set.empty() || !change.set.front().path.empty()) return false;
  for (const std::vector<JsonTest>& list : change.when) {
    for (const JsonTest& test : list) {
      if (test.path.empty() && !test.expected && test.op != Operator::kNotEquals) return true;
    }
  }
  return false;
}

}  // namespace

JsonNode ReadJson(std::string_view text) {
  std::string shown;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    if (text[i] == '"') {
      end = PastString(text, i);
    } else if (text[i] == '-' || (text[i] >= '0' && text[i] <= '9')) {
      end = PastScalar(text, i);
      const std::size_t e = text.substr(0, end).find_first_of("eE", i);
      if (end - i > 60 || (e != text.npos && end - e > 3)) {
        shown += StrCat("\"\\u0001#", text.substr(i, end - i), "\"");
        i = end;
        continue;
      }
    }
    shown += text.substr(i, end - i);
    i = end;
  }
  Builder builder;
  if (!nlohmann::json::sax_parse(shown, &builder)) {
    Fatal(StrCat("not JSON: ", builder.error(), ": ", text));
  }
  return std::move(builder.root());
}

bool SameJson(const JsonNode& a, const JsonNode& b) {
  if (a.kind != b.kind || a.children.size() != b.children.size()) return false;
  if (a.kind == JsonNode::kNumber) return CompareNumbers(a, b) == 0;
  if (a.word != b.word) return false;
  for (std::size_t i = 0; i < a.children.size(); ++i) {
    std::size_t j = i;
    if (a.kind == JsonNode::kObject) {
      const auto name = std::find(b.names.begin(), b.names.end(), a.names[i]);
      if (name == b.names.end()) return false;
      j = static_cast<std::size_t>(name - b.names.begin());
    }
    if (!SameJson(a.children[i], b.children[j])) return false;
  }
  return true;
}

bool IdenticalJson(const JsonNode& a, const JsonNode& b) {
  return a.kind == b.kind && a.word == b.word && a.negative == b.negative &&
         a.exponent == b.exponent && a.names == b.names &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end(),
                    IdenticalJson);
}

bool RepeatsAName(const JsonNode& node) {
  std::vector<std::string> names = node.names;
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end() ||
         std::any_of(node.children.begin(), node.children.end(), RepeatsAName);
}

JsonExpectation ExpectJson(const std::optional<std::string>& stored, const JsonChange& change) {
  JsonExpectation expected;
  expected.after = stored;
  if (stored) expected.meaning = ReadJson(*stored);
  if (!stored && !Creates(change)) return expected;

  const Extent whole = stored ? Walk(*stored, PastSpace(*stored, 0)) : Extent();
  std::optional<CasResult> failed;
  bool right = change.when.empty();
  for (const std::vector<JsonTest>& list : change.when) {
    right = true;
    for (std::size_t n = 0; right && n < list.size(); ++n) {
      const JsonTest& test = list[n];
      std::optional<std::string> current;
      if (stored && test.path.empty() && test.op == Operator::kSameText && test.expected) {
        current = *stored;  // with the white space around it
      } else if (stored) {
        const Location location = Locate(expected.meaning, test.path, false);
        expected.refused = location.refused;
        if (!expected.refused.empty()) return expected;
        if (location.found) {
          const Extent& place = At(whole, location.steps);
          current = stored->substr(place.start, place.end - place.start);
        }
      }
      const Verdict verdict = Judge(test, current);
      expected.refused = verdict.refused;
      if (!expected.refused.empty()) return expected;
      right = verdict.holds;
      if (!right && !failed) failed = CasResult{CasResult::Outcome::kMismatch, n, current};
    }
    if (right) break;
  }
  if (!right) {
    expected.result = *failed;
    return expected;
  }

  std::string text = stored.value_or("");
  JsonNode root = expected.meaning;
  for (const JsonAssignment& assignment : change.set) {
    expected.refused = Assign(assignment, text, root);
    if (!expected.refused.empty()) return expected;
  }
  expected.result.outcome = CasResult::Outcome::kApplied;
  expected.after.reset();
  if (change.set.empty() || !change.set.front().path.empty() || change.set.front().value) {
    expected.after = std::move(text);
    expected.meaning = std::move(root);
  }
  return expected;
}

}  // namespace coord::testing
