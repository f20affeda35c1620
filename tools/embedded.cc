// coord embedded status|stop
//
// The one subcommand that looks behind the public headers: it is the tool for what they start.
#include "coord/deployment/embedded.h"

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "coord/deployment/url.h"
#include "coord/internal/status.h"
#include "coord/internal/strings.h"
#include "tools/arguments.h"
#include "tools/program.h"

namespace coord::tools {
namespace {

using internal::EmbeddedPlace;
using internal::EmbeddedStatus;
using internal::InvalidArgument;
using internal::StrCat;

constexpr absl::Duration kPatience = absl::Seconds(10);

// The directory of --dir, else of an embedded:// URL; empty for this user's server.
absl::StatusOr<std::string> Directory(const Program& program, const Text& dir) {
  if (dir) {
    if (dir->empty()) return InvalidArgument("--dir is \"\"; it must be a directory");
    std::error_code error;
    const std::filesystem::path path = std::filesystem::absolute(*dir, error);
    if (error)
      return InvalidArgument(StrCat("--dir is ", internal::Quoted(*dir), ": ", error.message()));
    return path.lexically_normal().string();
  }
  const char* const environment = std::getenv("COORD_URL");
  const std::string text = !program.url().empty()   ? program.url()
                           : environment != nullptr ? environment
                                                    : "";
  if (text.empty()) return "";
  absl::StatusOr<internal::Url> url = internal::ParseUrl(text);
  if (!url.ok()) return url.status();
  if (url->scheme == internal::Url::Scheme::kEmbedded && !url->embedded_private) return url->path;
  // $COORD_URL is about where others coordinate; --url was meant for this call.
  if (program.url().empty()) return "";
  return InvalidArgument(StrCat("--url is ", url->Redacted(),
                                ", which is no kept embedded server; leave it out, or use "
                                "embedded:///path/dir"));
}

struct Found {
  EmbeddedPlace place;
  EmbeddedStatus status;
  absl::Duration patience;
};

absl::StatusOr<Found> Find(const Program& program, const Text& dir) {
  absl::Duration patience = kPatience;
  if (!program.timeout.empty()) {
    Arguments given;
    patience = given.Duration("--timeout", std::string_view(program.timeout));
    if (!given.status().ok()) return given.status();
  }
  absl::StatusOr<std::string> directory = Directory(program, dir);
  if (!directory.ok()) return directory.status();
  absl::StatusOr<EmbeddedPlace> place = internal::FindEmbeddedPlace(*directory);
  if (!place.ok()) return place.status();
  absl::StatusOr<EmbeddedStatus> status = internal::GetEmbeddedStatus(*place, patience);
  if (!status.ok()) return status.status();
  return Found{*std::move(place), *std::move(status), patience};
}

absl::StatusOr<int> Status(const Program& program, const Text& dir) {
  absl::StatusOr<Found> found = Find(program, dir);
  if (!found.ok()) return found.status();
  const auto& [place, status, patience] = *found;
  if (program.json) {
    PrintJson({{"running", status.running},
               {"pid", status.running ? nlohmann::json(status.pid) : nlohmann::json()},
               {"server", status.running ? nlohmann::json(status.server) : nlohmann::json()},
               {"socket", JsonText(place.socket_path)},
               {"data", JsonText(place.data_dir)}});
  } else {
    PrintLine(status.running ? "running" : "not running");
    if (status.running) {
      PrintLine(StrCat("pid     ", status.pid));
      PrintLine(StrCat("server  ", status.server));
    }
    PrintLine(StrCat("socket  ", place.socket_path));
    PrintLine(StrCat("data    ", place.data_dir));
  }
  return status.running ? kExitOk : kExitError;
}

absl::StatusOr<int> Stop(const Program& program, const Text& dir) {
  absl::StatusOr<Found> found = Find(program, dir);
  if (!found.ok()) return found.status();
  // Also when nobody answers: one that is just starting, or whose socket was removed, is stopped
  // too.
  absl::Status stopped = internal::StopEmbedded(found->place, found->patience);
  if (!stopped.ok()) return stopped;
  if (program.json) {
    PrintJson({{"stopped", found->status.running}});
  } else {
    PrintLine(found->status.running ? "stopped" : "not running");
  }
  return kExitOk;
}

}  // namespace

void AddEmbedded(CLI::App& app, Program& program) {
  CLI::App* embedded = app.add_subcommand("embedded", "The server that embedded:// starts");
  embedded->require_subcommand(1);
  embedded->footer(
      "embedded:// is one Redis server per user of this machine, started by the first program "
      "that\n"
      "needs it. It keeps its data, and stays until it is stopped.");
  const auto dir = std::make_shared<Text>();

  CLI::App* status = embedded->add_subcommand("status", "Say whether it runs, and where");
  CLI::App* stop = embedded->add_subcommand("stop", "Stop it; its data stays");
  for (CLI::App* leaf : {status, stop}) {
    AddText(*leaf, "--dir", *dir, "The one of embedded:///PATH; else this user's", "PATH");
  }
  status->footer("Exit status 1: it does not run.");
  stop->footer("Exit status 0 also where none runs.");
  status->callback([&program, dir] { program.exit_code = program.Finish(Status(program, *dir)); });
  stop->callback([&program, dir] { program.exit_code = program.Finish(Stop(program, *dir)); });
}

}  // namespace coord::tools
