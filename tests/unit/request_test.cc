// What goes in front of a command and behind it, in whatever order it is asked for.
#include "coord/wire/request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "coord/internal/strings.h"

namespace coord::internal {
namespace {

constexpr ScriptText kScript{"thing_do", "return 1", "0123456789012345678901234567890123456789",
                             true};

std::string Encoded(std::vector<std::string_view> args) {
  std::string out;
  AppendCommand(out, args);
  return out;
}

Request ScriptCall() {
  const std::string_view keys[] = {"{a}:x", "{a}:y"};
  const std::string_view args[] = {"1", ""};
  return Request::Call(kScript, keys, args);
}

// What is told to a request, one letter each.
void Tell(Request& request, char step) {
  switch (step) {
    case 't':
      return request.TellOthersFirst();
    case 'a':
      return request.SetAsking(true);
    case 'n':
      return request.SetAsking(false);
    case 'e':
      (void)request.UseEval();
      return;
  }
}

void Expect(const Request& request, const std::string& steps, bool told, bool asking, bool eval) {
  const std::string command =
      eval ? Encoded({"EVAL", "return 1", "2", "{a}:x", "{a}:y", "1", ""})
           : Encoded({"EVALSHA", kScript.sha1, "2", "{a}:x", "{a}:y", "1", ""});
  const std::string front = StrCat(told ? Encoded({"PING"}) : std::string(),
                                   asking ? Encoded({"ASKING"}) : std::string());
  EXPECT_EQ(request.bytes(), front + command) << steps;
  EXPECT_EQ(request.command(), command) << steps;
  EXPECT_EQ(request.replies(), 1u + (told ? 1 : 0) + (asking ? 1 : 0)) << steps;
  EXPECT_LE(request.replies(), Request::kMostReplies) << steps;
  EXPECT_EQ(request.asking(), asking) << steps;
  EXPECT_EQ(request.is_script(), !eval) << steps;
  EXPECT_EQ(request.what(), "thing_do") << steps;
  EXPECT_TRUE(request.retry_safe()) << steps;
}

// All words of up to five letters: 1,364 of them.
TEST(RequestTest, WhatGoesInFrontIsThereOnceAndInItsPlaceInWhateverOrderItWasAskedFor) {
  std::vector<std::string> words = {""};
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string word = words[at];
    if (word.size() < 5) {
      for (const char step : {'t', 'a', 'n', 'e'}) words.push_back(word + step);
    }
    Request request = ScriptCall();
    bool told = false, asking = false, eval = false;
    for (const char step : word) {
      if (step == 'e') {
        EXPECT_EQ(request.UseEval(), !eval) << word;
      } else {
        Tell(request, step);
      }
      told = told || step == 't';
      asking = step == 'a' || (step != 'n' && asking);
      eval = eval || step == 'e';
      Expect(request, word, told, asking, eval);
    }
  }
  EXPECT_EQ(words.size(), 1u + 4 + 16 + 64 + 256 + 1024);
}

TEST(RequestTest, ACopyGoesItsOwnWay) {
  Request request = ScriptCall();
  request.SetAsking(true);
  Request copy = request;
  copy.TellOthersFirst();
  (void)copy.UseEval();
  request.SetAsking(false);
  Expect(copy, "copy", true, true, true);
  Expect(request, "original", false, false, false);
}

TEST(RequestTest, APlainCommandHasNoOtherForm) {
  const std::string_view words[] = {"GET", "{a}:x"};
  Request request = Request::Command(words);
  EXPECT_EQ(request.bytes(), Encoded({"GET", "{a}:x"}));
  EXPECT_FALSE(request.UseEval());
  EXPECT_FALSE(request.retry_safe());
  request.SetAsking(true);
  request.TellOthersFirst();
  EXPECT_EQ(request.bytes(), Encoded({"PING"}) + Encoded({"ASKING"}) + Encoded({"GET", "{a}:x"}));
  EXPECT_EQ(request.command(), Encoded({"GET", "{a}:x"}));
  EXPECT_EQ(request.replies(), 3u);
  request.SetAsking(false);
  EXPECT_EQ(request.bytes(), Encoded({"PING"}) + Encoded({"GET", "{a}:x"}));
}

// SUNSUBSCRIBE is answered by a push; the PING behind it has the one reply that counts.
TEST(RequestTest, APushedCommandHasItsReplyBehindIt) {
  const std::string_view words[] = {"SUNSUBSCRIBE", "{a}:wake"};
  Request request = Request::PushedCommand(words);
  const std::string both = Encoded({"SUNSUBSCRIBE", "{a}:wake"}) + Encoded({"PING"});
  EXPECT_EQ(request.bytes(), both);
  EXPECT_EQ(request.replies(), 1u);
  EXPECT_EQ(request.what(), "SUNSUBSCRIBE");
  EXPECT_FALSE(request.UseEval());
  request.SetAsking(true);
  EXPECT_EQ(request.bytes(), Encoded({"ASKING"}) + both);
  EXPECT_EQ(request.replies(), 2u);
  request.SetAsking(false);
  EXPECT_EQ(request.bytes(), both);
}

TEST(RequestTest, TheKeysOfACommandAreAskedForWithItsOwnWords) {
  const std::string words = Encoded({"MSET", "a", "1", "b", "2"});
  const std::string_view behind = std::string_view(words).substr(words.find("\r\n") + 2);
  const Request request = Request::CommandKeysOf(5, behind);
  EXPECT_EQ(request.bytes(), Encoded({"COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"}));
  EXPECT_TRUE(request.retry_safe());
}

}  // namespace
}  // namespace coord::internal
