// A server that is not Redis, or a Redis that lies: it plays what the test says.
//
//   FakeServer http(AnswersHttp());
//   FakeServer liar(Answers([](const FakeCommand& command) -> FakeAnswer {
//     if (command.arguments[0] == "GET") return {.bytes = "-MOVED 1 10.0.0.1:6379\r\n"};
//     return {.bytes = "+OK\r\n"};
//   }));
#ifndef COORD_TESTS_SUPPORT_FAKE_SERVER_H_
#define COORD_TESTS_SUPPORT_FAKE_SERVER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace coord::testing {

struct FakeCommand {
  std::size_t connection = 0;  // counted from 0 in the order of accepting
  std::vector<std::string>
      arguments{};  // never empty; a line that is no RESP is split at its blanks
};

struct FakeAnswer {
  enum class Then { kStay, kClose, kReset };
  std::string bytes{};  // none: no answer
  Then then = Then::kStay;
};

struct FakeScript {
  FakeAnswer on_connect{};  // at once, before anything is asked
  // Runs on the server's thread, one call at a time for all connections. Unset: no answer to
  // anything.
  std::function<FakeAnswer(const FakeCommand&)> on_command{};
};

FakeScript Hangs();         // accepts, reads, and never says a word
FakeScript ClosesAtOnce();  // accepts and closes
FakeScript ResetsAtOnce();  // accepts and resets
FakeScript Says(std::string bytes,
                FakeAnswer::Then then = FakeAnswer::Then::kStay);  // on connecting
FakeScript AnswersHttp();  // "HTTP/1.1 400 Bad Request", and closes
FakeScript Answers(std::function<FakeAnswer(const FakeCommand&)> on_command);
FakeScript AnswersAll(std::string bytes);  // the same to every command

// Listens on a loopback TCP port until destroyed, in a thread of its own. For delays, put a
// FaultProxy before it.
class FakeServer {
 public:
  explicit FakeServer(FakeScript script);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::string url() const;  // "redis://127.0.0.1:port"
  int port() const;

  void Send(std::size_t connection, std::string bytes);  // unasked, a push message say
  std::size_t accepted();                                // connections so far
  std::size_t open();                                    // connections now
  std::vector<FakeCommand> commands();                   // all that came so far
  std::string received();  // the bytes that came so far, of all connections

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coord::testing

#endif  // COORD_TESTS_SUPPORT_FAKE_SERVER_H_
