// Random JSON documents whose every byte the test has placed itself, so that it knows without
// reading any JSON which bytes a change may touch.
//
//   JsonMaker maker(seed);
//   JsonNode root = maker.Document();
//   const std::string text = maker.Render(root);  // root's nodes know now where they stand
#ifndef COORD_TESTS_SUPPORT_JSON_MAKER_H_
#define COORD_TESTS_SUPPORT_JSON_MAKER_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace coord::testing {

// A value as it is meant, and where it stands in the text last rendered.
struct JsonNode {
  enum Kind { kWord, kNumber, kString, kArray, kObject } kind = kWord;
  std::string word;  // of kWord; the digits of kNumber, no zero at either end; what kString means
  bool negative = false;
  int exponent = 0;
  std::vector<std::string> names;  // of kObject: what they mean
  std::vector<JsonNode> children;
  std::size_t start = 0, end = 0;
  std::size_t tail = 0;  // of containers: behind the last child, or the opening bracket
};

struct JsonPlace {
  std::string pointer;
  JsonNode* node;
};

// The same seed makes the same documents. One thread at a time.
class JsonMaker {
 public:
  explicit JsonMaker(std::uint64_t seed) : random_(seed) {}

  int Below(int n) { return static_cast<int>(random_() % static_cast<std::uint64_t>(n)); }
  bool OneIn(int n) { return Below(n) == 0; }
  template <typename T>
  T& Pick(std::vector<T>& from) {
    return from[static_cast<std::size_t>(Below(static_cast<int>(from.size())))];
  }

  // How the next documents look: 0 flat and plain, as most are, up to 3 with all that JSON allows.
  void set_style(int style) { style_ = style; }

  JsonNode Document();
  JsonNode Value(int depth, bool container = false);
  // A name that the object does not have.
  std::string Name(const JsonNode& object);

  // The text of a value, spelled at random, with white space around it.
  std::string Render(JsonNode& node);

  // The same value with the members in another order.
  JsonNode Reordered(JsonNode node);
  // A value that differs, by as little as possible.
  JsonNode Changed(JsonNode node);

  static void Places(JsonNode& node, const std::string& pointer, std::vector<JsonPlace>& out);
  // A name as it stands in a JSON Pointer.
  static std::string Token(std::string_view name);

 private:
  void FillNumber(JsonNode& node);
  std::string Character();
  void Space(std::string& out);
  void RenderValue(JsonNode& node, std::string& out);
  void RenderNumber(const JsonNode& node, std::string& out);
  void RenderString(const std::string& text, std::string& out);
  void AppendUnits(const std::string& one, std::string& out);

  std::mt19937_64 random_;
  int style_ = 0;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_JSON_MAKER_H_
