// Commands written to a socket and replies counted, with nothing in between: the least a client can
// do.
#ifndef COORD_BENCH_RAW_PIPELINE_H_
#define COORD_BENCH_RAW_PIPELINE_H_

#include <initializer_list>
#include <string>
#include <string_view>

#include "coord/internal/script.h"

namespace coord::bench {

// Not thread-safe. Ends the program when it cannot connect.
class RawPipeline {
 public:
  explicit RawPipeline(const std::string& socket_path);
  ~RawPipeline();
  RawPipeline(const RawPipeline&) = delete;
  RawPipeline& operator=(const RawPipeline&) = delete;

  void Load(const internal::ScriptText& script);
  // EVALSHA, to be sent by the next Run. The script must answer with an integer, or with two
  // strings where it is named mutex_acquire: replies are not parsed, only counted by their lines.
  void Add(const internal::ScriptText& script, std::initializer_list<std::string_view> keys,
           std::initializer_list<std::string_view> args);
  // Sends all that was added and takes the replies. False on any error, that of a command included.
  bool Run();

 private:
  int fd_ = -1;
  std::string output_;
  std::size_t lines_ = 0;  // that the replies to output_ have
};

}  // namespace coord::bench

#endif  // COORD_BENCH_RAW_PIPELINE_H_
