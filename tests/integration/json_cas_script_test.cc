// lua/json_cas.lua against random documents whose every byte this test has placed itself, so that
// it knows without reading any JSON which bytes a change may touch.
#include <algorithm>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coord/client.h"
#include "coord/internal/json_text.h"
#include "coord/json_document.h"
#include "coord/script.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "scripts.h"
#include "tests/support/raw_redis.h"
#include "tests/support/redis_server.h"
#include "tests/support/status_matchers.h"

namespace coord {
namespace {

using ::coord::testing::RawRedis;
using ::coord::testing::RedisServer;

// A value as it is meant, and where it stands in the text last rendered.
struct Node {
  enum Kind { kWord, kNumber, kString, kArray, kObject } kind = kWord;
  std::string word;  // of kWord; the digits of kNumber, no zero at either end; what kString means
  bool negative = false;
  int exponent = 0;
  std::vector<std::string> names;  // of kObject: what they mean
  std::vector<Node> children;
  std::size_t start = 0, end = 0;
  std::size_t tail = 0;  // of containers: behind the last child, or the opening bracket
};

struct Place {
  std::string pointer;
  Node* node;
};

class Maker {
 public:
  explicit Maker(std::uint64_t seed) : random_(seed) {}

  int Below(int n) { return static_cast<int>(random_() % static_cast<std::uint64_t>(n)); }
  bool OneIn(int n) { return Below(n) == 0; }
  template <typename T>
  T& Pick(std::vector<T>& from) {
    return from[static_cast<std::size_t>(Below(static_cast<int>(from.size())))];
  }

  // How the next documents look: 0 flat and plain, as most are, up to 3 with all that JSON allows.
  void set_style(int style) { style_ = style; }

  Node Document() {
    Node node = Value(style_ == 0 ? 1 : 4, true);
    if (style_ == 3 && OneIn(8)) {
      for (int i = Below(110); i > 0; --i) {
        Node outer;
        outer.kind = OneIn(2) ? Node::kArray : Node::kObject;
        if (outer.kind == Node::kObject) outer.names = {Name(outer)};
        outer.children.push_back(std::move(node));
        node = std::move(outer);
      }
    }
    return node;
  }

  std::string Render(Node& node) {
    std::string out;
    Space(out);
    RenderValue(node, out);
    Space(out);
    return out;
  }

  // The same value in other words: members in another order, numbers and strings spelled anew.
  Node Reordered(Node node) {
    for (Node& child : node.children) child = Reordered(std::move(child));
    if (node.kind == Node::kObject) {
      for (std::size_t i = node.names.size(); i > 1; --i) {
        const auto j = static_cast<std::size_t>(Below(static_cast<int>(i)));
        std::swap(node.names[i - 1], node.names[j]);
        std::swap(node.children[i - 1], node.children[j]);
      }
    }
    return node;
  }

  // A value that differs, by as little as possible.
  Node Changed(Node node) {
    if (!node.children.empty() && !OneIn(4)) {
      Node& child = Pick(node.children);
      child = Changed(std::move(child));
      return node;
    }
    switch (node.kind) {
      case Node::kWord:
        node.word = node.word == "null" ? "false" : "null";
        break;
      case Node::kNumber:
        if (node.word == "0") {
          node.word = "1";
        } else if (OneIn(3)) {
          node.negative = !node.negative;
        } else if (OneIn(2)) {
          ++node.exponent;
        } else {
          node.word.back() =
              node.word.back() == '9' ? '8' : static_cast<char>(node.word.back() + 1);
        }
        break;
      case Node::kString:
        node.word += OneIn(2) ? "x" : " ";
        break;
      case Node::kArray:
      case Node::kObject:
        if (node.children.empty()) {
          node.kind = node.kind == Node::kArray ? Node::kObject : Node::kArray;
        } else {
          node.children.pop_back();
          if (node.kind == Node::kObject) node.names.pop_back();
        }
        break;
    }
    return node;
  }

  static void Places(Node& node, const std::string& pointer, std::vector<Place>& out) {
    out.push_back({pointer, &node});
    for (std::size_t i = 0; i < node.children.size(); ++i) {
      Places(node.children[i],
             pointer + "/" + (node.kind == Node::kArray ? std::to_string(i) : Token(node.names[i])),
             out);
    }
  }

  static std::string Token(std::string_view name) {
    std::string token;
    for (const char c : name) {
      if (c == '~') {
        token += "~0";
      } else if (c == '/') {
        token += "~1";
      } else {
        token += c;
      }
    }
    return token;
  }

  // A name that the object does not have.
  std::string Name(const Node& object) {
    static constexpr const char* kPlain[] = {"a",  "b", "state", "owner", "id", "tags",
                                             "at", "n", "x_1",   "x 1",   "1"};
    static constexpr const char* kAny[] = {"",
                                           "a/b",
                                           "m~n",
                                           "-",
                                           "0",
                                           "\"",
                                           "\\",
                                           "\n",
                                           "\\u0061",
                                           "\xc3\xa9",
                                           "\xf0\x9f\x98\x80",
                                           "a\":1,\"b",
                                           "\x7f",
                                           "{",
                                           "a]",
                                           "~1",
                                           "%b",
                                           "]}"};
    for (;;) {
      std::string name = style_ < 2 || OneIn(2) ? kPlain[Below(11)] : kAny[Below(18)];
      if (std::find(object.names.begin(), object.names.end(), name) == object.names.end())
        return name;
      name += std::to_string(Below(1000));
      if (std::find(object.names.begin(), object.names.end(), name) == object.names.end())
        return name;
    }
  }

  Node Value(int depth, bool container = false) {
    Node node;
    const int kind = container ? (OneIn(6) ? 3 : 4) : Below(depth > 0 ? 8 : 6);
    if (kind == 3 || kind == 6) {
      node.kind = depth > 0 ? Node::kArray : Node::kNumber;
    } else if (kind == 4 || kind == 7) {
      node.kind = depth > 0 ? Node::kObject : Node::kString;
    } else {
      node.kind = kind == 0 ? Node::kWord : kind < 3 ? Node::kNumber : Node::kString;
    }
    if (node.kind == Node::kWord) {
      node.word = OneIn(3) ? "null" : OneIn(2) ? "true" : "false";
    } else if (node.kind == Node::kNumber) {
      FillNumber(node);
    } else if (node.kind == Node::kString) {
      for (int i = Below(OneIn(10) ? 40 : 6); i > 0; --i) node.word += Character();
    } else {
      for (int i = Below(style_ == 0 ? 12 : 6); i > 0; --i) {
        if (node.kind == Node::kObject) node.names.push_back(Name(node));
        node.children.push_back(Value(depth - 1));
      }
    }
    return node;
  }

 private:
  void FillNumber(Node& node) {
    if (OneIn(6)) {
      node.word = "0";
      return;
    }
    static constexpr const char* kNotable[] = {"9007199254740992",     "9007199254740993",
                                               "9223372036854775807",  "9223372036854775808",
                                               "18446744073709551616", "1"};
    if (OneIn(4)) {
      node.word = kNotable[Below(6)];
    } else {
      node.word = std::to_string(random_() >> (random_() % 64));
      while (node.word.size() > 1 && node.word.back() == '0') node.word.pop_back();
      if (node.word == "0") node.word = "7";
      if (style_ == 3 && OneIn(20)) node.word += std::string(200, '3');
    }
    node.negative = OneIn(4);
    if (style_ > 0) node.exponent = OneIn(2) ? 0 : Below(9) - 4;
    if (style_ == 3 && OneIn(6)) node.exponent = Below(2000) - 1000;
  }

  std::string Character() {
    static constexpr const char* kAny[] = {"\"",
                                           "\\",
                                           "/",
                                           "\n",
                                           "\x01",
                                           "\x7f",
                                           "\xc3\xa9",
                                           "{",
                                           "]",
                                           "\xe2\x82\xac",
                                           "\xf0\x9f\x98\x80",
                                           "\xef\xbf\xbf",
                                           ",\"a\":",
                                           "\\u0061"};
    if (style_ < 2 || OneIn(2)) {
      static constexpr char kPlain[] = "abc 09:,{}[]/._-";
      return std::string(1, kPlain[Below(16)]);
    }
    return kAny[Below(14)];
  }

  void Space(std::string& out) {
    if (style_ == 1 && OneIn(2)) out += OneIn(9) ? "   " : " ";
    if (style_ == 3) {
      for (int i = OneIn(3) ? Below(4) : 0; i > 0; --i) out += " \n\t\r"[Below(4)];
    }
  }

  void RenderValue(Node& node, std::string& out) {
    node.start = out.size();
    switch (node.kind) {
      case Node::kWord:
        out += node.word;
        break;
      case Node::kNumber:
        RenderNumber(node, out);
        break;
      case Node::kString:
        RenderString(node.word, out);
        break;
      case Node::kArray:
      case Node::kObject: {
        const bool object = node.kind == Node::kObject;
        out += object ? '{' : '[';
        node.tail = out.size();
        Space(out);
        for (std::size_t i = 0; i < node.children.size(); ++i) {
          if (i > 0) {
            out += ',';
            Space(out);
          }
          if (object) {
            RenderString(node.names[i], out);
            Space(out);
            out += ':';
            Space(out);
          }
          RenderValue(node.children[i], out);
          node.tail = out.size();
          Space(out);
        }
        out += object ? '}' : ']';
        break;
      }
    }
    node.end = out.size();
  }

  void RenderNumber(const Node& node, std::string& out) {
    std::string digits = node.word;
    if (digits == "0") {
      static constexpr const char* kZeros[] = {"0", "-0", "0.0", "0e7", "-0.00E-12", "0.0e+1"};
      out += kZeros[style_ < 2 ? 0 : Below(6)];
      return;
    }
    if (node.negative) out += '-';
    int exponent = node.exponent;
    if (style_ < 2 || OneIn(2)) {
      if (exponent > 0 && exponent < 20) {
        digits.append(static_cast<std::size_t>(exponent), '0');
        exponent = 0;
      } else if (exponent < 0 && -exponent < static_cast<int>(digits.size())) {
        digits.insert(digits.size() - static_cast<std::size_t>(-exponent), ".");
        exponent = 0;
      }
    } else {
      for (int i = Below(3); i > 0; --i, --exponent) digits += '0';
      const int point = Below(static_cast<int>(digits.size()));
      if (point == 0) {
        exponent += static_cast<int>(digits.size());
        digits = "0." + digits;
      } else {
        exponent += static_cast<int>(digits.size()) - point;
        digits.insert(static_cast<std::size_t>(point), ".");
      }
    }
    out += digits;
    if (exponent != 0 || (style_ >= 2 && OneIn(5))) {
      out += OneIn(2) ? 'e' : 'E';
      if (exponent >= 0 && OneIn(2)) out += '+';
      if (exponent < 0) out += '-';
      if (OneIn(5)) out += "00";
      out += std::to_string(std::abs(exponent));
    }
  }

  void RenderString(const std::string& text, std::string& out) {
    out += '"';
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = internal::Utf8Length(std::string_view(text).substr(i));
      const std::string one = text.substr(i, length);
      i += length;
      const bool must = one == "\"" || one == "\\" || static_cast<unsigned char>(one[0]) < 0x20;
      if (!must && !(style_ >= 2 && OneIn(6))) {
        out += one;
        continue;
      }
      if (one == "/") {
        out += "\\/";
      } else if (one == "\n" && OneIn(2)) {
        out += "\\n";
      } else if (must && one[0] >= 0x20 && OneIn(2)) {
        out += "\\" + one;
      } else {
        AppendUnits(one, out);
      }
    }
    out += '"';
  }

  void AppendUnits(const std::string& one, std::string& out) {
    unsigned code = static_cast<unsigned char>(one[0]);
    if (one.size() > 1) code &= 0xFFU >> (one.size() + 1);
    for (std::size_t i = 1; i < one.size(); ++i)
      code = code << 6 | (static_cast<unsigned char>(one[i]) & 0x3FU);
    const auto unit = [&](unsigned value) {
      const char* digits = OneIn(2) ? "0123456789abcdef" : "0123456789ABCDEF";
      out += "\\u";
      for (int shift = 12; shift >= 0; shift -= 4) out += digits[(value >> shift) & 15];
    };
    if (code < 0x10000) return unit(code);
    unit(0xD800 + ((code - 0x10000) >> 10));
    unit(0xDC00 + ((code - 0x10000) & 0x3FF));
  }

  std::mt19937_64 random_;
  int style_ = 0;
};

class JsonCasScriptTest : public ::testing::Test {
 protected:
  static std::string Without(std::string text, const std::string& line,
                             const std::string& instead) {
    const std::size_t at = text.find(line);
    EXPECT_NE(at, text.npos) << "the script no longer has the line: " << line;
    if (at != text.npos) text.replace(at, line.size(), instead);
    return text;
  }

  static Client Connect(const RedisServer& server) {
    absl::StatusOr<Client> client = Client::Connect(server.url());
    if (!client.ok()) ADD_FAILURE() << client.status();
    return *std::move(client);
  }

  void Store(const std::string& text) { redis_.Command({"SET", "coord:{doc}:json", text}); }
  std::string Stored() { return redis_.Text({"GET", "coord:{doc}:json"}); }

  // What `script` answers for one test and one set on `text`, and what it leaves.
  std::pair<Reply, std::string> RunOn(const Script& script, const std::string& text,
                                      const std::string& path, const std::string& expected,
                                      const std::string& value) {
    Store(text);
    const absl::StatusOr<Reply> reply =
        client_.Run(script, {"coord:{doc}:json"}, {"1", path, expected, path, value});
    EXPECT_OK(reply) << text;
    return {reply.ok() ? *reply : Reply(), Stored()};
  }

  RedisServer server_;
  RawRedis redis_{server_};
  Client client_ = Connect(server_);
  JsonDocument document_{client_, "doc"};
  const std::string text_{internal::kJsonCas.text};
  const Script script_{text_};
  // Without the quick path; and without the fast patterns either, which looks at each name by
  // itself and reads each document to its end.
  const std::string scanning_ = Without(text_, "local outer, name = nil, match(path",
                                        "do return end local outer, name = nil, match(path");
  const Script scanner_{scanning_};
  const Script strict_{Without(
      Without(
          Without(Without(scanning_, "local function past_members(i, stop)",
                          "local function past_members(i, stop) do return i end"),
                  "behind = match(shape, element_string, i) or match(shape, element_integer, i)",
                  "behind = nil"),
          "local loose = ", "local loose = true or "),
      "if rough or find(shape", "if true or find(shape")};
};

TEST_F(JsonCasScriptTest, WhatIsAppliedTouchesNoOtherByte) {
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    Maker maker(seed);
    maker.set_style(static_cast<int>(seed % 4));
    Node root = maker.Document();
    const std::string text = maker.Render(root);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + text);
    ASSERT_FALSE(internal::FindJsonFault(text)) << internal::FindJsonFault(text)->why;
    std::vector<Place> places;
    Maker::Places(root, "", places);
    const Place test = maker.Pick(places);
    const Place set = maker.OneIn(2) ? test : maker.Pick(places);
    const std::string current = text.substr(test.node->start, test.node->end - test.node->start);
    Node same = maker.Reordered(*test.node);
    const std::string equal = maker.Render(same);
    Node fresh = maker.Value(1);
    const std::string value = maker.Render(fresh);

    Store(text);
    auto result = document_.CompareAndSetFields({{test.pointer, equal}}, {{set.pointer, value}});
    ASSERT_OK(result) << test.pointer << " = " << equal;
    ASSERT_TRUE(result->applied()) << test.pointer << " = " << equal;
    const std::string after =
        set.pointer.empty() ? value
                            : text.substr(0, set.node->start) + value + text.substr(set.node->end);
    ASSERT_EQ(Stored(), after) << set.pointer;

    Store(text);
    Node other = maker.Changed(*test.node);
    const std::string different = maker.Render(other);
    result = document_.CompareAndSetFields({{test.pointer, different}}, {{set.pointer, value}});
    ASSERT_OK(result);
    ASSERT_EQ(result->outcome, CasResult::Outcome::kMismatch) << test.pointer << " = " << different;
    ASSERT_EQ(result->current, current);
    result = document_.CompareAndSetFields({{test.pointer, equal}, {test.pointer, std::nullopt}},
                                           {{set.pointer, value}});
    ASSERT_OK(result);
    ASSERT_EQ(result->failed_test, 1U);
    ASSERT_EQ(result->current, current);
    ASSERT_EQ(Stored(), text);

    if (set.node->kind == Node::kObject) {
      const std::string name = maker.Name(*set.node);
      const std::string pointer = set.pointer + "/" + Maker::Token(name);
      result = document_.CompareAndSetField(pointer, value, value);
      ASSERT_OK(result);
      ASSERT_EQ(result->outcome, CasResult::Outcome::kMismatch) << pointer;
      ASSERT_EQ(result->current, std::nullopt);
      result = document_.CompareAndSetFields({{test.pointer, equal}, {pointer, std::nullopt}},
                                             {{pointer, value}});
      ASSERT_OK(result);
      ASSERT_TRUE(result->applied()) << pointer;
      const std::string stored = Stored();
      const std::string before = text.substr(0, set.node->tail);
      const std::string behind = ":" + value + text.substr(set.node->tail);
      ASSERT_TRUE(stored.starts_with(before) && stored.ends_with(behind)) << stored;
      std::string middle =
          stored.substr(before.size(), stored.size() - before.size() - behind.size());
      if (!set.node->children.empty()) {
        ASSERT_EQ(middle[0], ',');
        middle.erase(0, 1);
      }
      ASSERT_EQ(nlohmann::json::parse(middle, nullptr, false), nlohmann::json(name));
      ASSERT_FALSE(internal::FindJsonFault(stored));
    }
  }
}

TEST_F(JsonCasScriptTest, SeveralAssignmentsAreTheSameAsOneAfterTheOther) {
  for (std::uint64_t seed = 1; seed <= 1500; ++seed) {
    Maker maker(seed * 7919);
    maker.set_style(static_cast<int>(seed % 4));
    Node root = maker.Document();
    const std::string text = maker.Render(root);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + text);
    std::vector<Place> places;
    Maker::Places(root, "", places);
    std::vector<JsonAssignment> assignments;
    for (int i = 0; i < 4; ++i) {
      const Place& place = maker.Pick(places);
      Node fresh = maker.Value(1);
      assignments.push_back({place.pointer, maker.Render(fresh)});
      if (place.node->kind == Node::kObject && maker.OneIn(2)) {
        assignments.back().path += "/" + Maker::Token(maker.Name(*place.node));
      }
    }
    Store(text);
    bool refused = false;
    for (const JsonAssignment& one : assignments) {
      const auto result = document_.CompareAndSetFields(
          std::vector<JsonTest>{{"/no such", std::nullopt}}, std::vector<JsonAssignment>{one});
      refused = refused || !result.ok();
      if (result.ok()) {
        ASSERT_TRUE(result->applied());
      }
      if (refused) break;
    }
    const std::string after = refused ? text : Stored();
    Store(text);
    const auto result = document_.CompareAndSetFields(
        std::vector<JsonTest>{{"/no such", std::nullopt}}, assignments);
    ASSERT_EQ(result.ok(), !refused) << result.status();
    ASSERT_EQ(Stored(), after);
  }
}

TEST_F(JsonCasScriptTest, TheQuickPathsAgreeWithTheScannerOnBrokenDocumentsToo) {
  int applied = 0;
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 12000; ++seed) {
    Maker maker(seed * 104729);
    maker.set_style(static_cast<int>(seed % 4));
    Node root = maker.Document();
    std::string text = maker.Render(root);
    std::vector<Place> places;
    Maker::Places(root, "", places);
    const Place place = maker.Pick(places);
    Node same = maker.Reordered(*place.node);
    const std::string equal = maker.Render(same);
    for (int i = maker.Below(3); i > 0 && !text.empty(); --i) {
      const auto at = static_cast<std::size_t>(maker.Below(static_cast<int>(text.size())));
      static constexpr std::string_view kBytes = "{}[]\",:0 1-.e\\ntx\n\x01";
      const char byte =
          kBytes[static_cast<std::size_t>(maker.Below(static_cast<int>(kBytes.size())))];
      switch (maker.Below(4)) {
        case 0:
          text[at] = byte;
          break;
        case 1:
          text.insert(at, 1, byte);
          break;
        case 2:
          text.erase(at, 1);
          break;
        default:
          if (maker.OneIn(4)) text.resize(at);
      }
    }
    SCOPED_TRACE("seed " + std::to_string(seed) + ", path " + place.pointer + ": " + text);
    const std::string value = "[\"\xf0\x9f\xa6\x8a new\"]";
    const auto usual = RunOn(script_, text, place.pointer, equal, value);
    const auto scanned = RunOn(scanner_, text, place.pointer, equal, value);
    const auto strict = RunOn(strict_, text, place.pointer, equal, value);
    ASSERT_EQ(usual.second, scanned.second);
    ASSERT_EQ(usual.first, scanned.first);
    if (!strict.first.is_array() || strict.first.items()[0].integer() != -2) {
      ASSERT_EQ(usual.second, strict.second);
      ASSERT_EQ(usual.first, strict.first);
    }
    const auto fault = internal::FindJsonFault(text);
    if (!fault) {
      ASSERT_EQ(usual.first, strict.first);
    }
    if (usual.first == Reply::Integer(1)) {
      ++applied;
      if (place.pointer.empty()) continue;
      const std::size_t start = usual.second.find(value);
      ASSERT_NE(start, usual.second.npos);
      const std::size_t end = text.size() - (usual.second.size() - start - value.size());
      ASSERT_EQ(usual.second, text.substr(0, start) + value + text.substr(end));
      if (fault && fault->grammar && fault->why.find("UTF-8") == fault->why.npos &&
          fault->why.find("surrogate") == fault->why.npos) {
        ASSERT_GE(fault->at, end)
            << fault->why;  // all up to the value's end was read and found good
      }
    } else {
      ++refused;
      ASSERT_EQ(usual.second, text);
    }
  }
  EXPECT_GT(applied, 2000);
  EXPECT_GT(refused, 2000);
}

}  // namespace
}  // namespace coord
