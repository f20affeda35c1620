// Where `coord fetch -o` writes.
#ifndef COORD_TOOLS_FETCH_OUTPUT_H_
#define COORD_TOOLS_FETCH_OUTPUT_H_

#include <sys/types.h>

#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace coord::tools {

// A regular file appears whole, in place of the one that was there, or not at all. What is none
// (/dev/null, a pipe, a terminal) is written to as it comes.
//
//   OutputFile output(path);
//   output.Find();   // may wait for a pipe's reader
//   output.Begin();  // from now on there is something to take back
//   output.Write("..."); output.Keep();
class OutputFile {
 public:
  explicit OutputFile(std::string path) : path_(std::move(path)) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Looks what is there.
  absl::Status Find();
  // Makes the file beside it that takes its place in the end.
  absl::Status Begin();
  // kCancelled when `stop` is requested while nobody takes what is written.
  absl::Status Write(std::string_view bytes, const std::stop_token& stop);
  absl::Status Keep();

 private:
  absl::Status Error(int error, std::string_view what) const;

  const std::string path_;
  std::string target_;  // path_ without symbolic links
  std::string part_;    // empty: there is none
  mode_t mode_ = 0;
  int fd_ = -1;
};

}  // namespace coord::tools

#endif  // COORD_TOOLS_FETCH_OUTPUT_H_
