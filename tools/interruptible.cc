#include "tools/interruptible.h"

#include <optional>

#include "coord/internal/strings.h"
#include "tools/signals.h"

namespace coord::tools {

int WaitInterruptibly(const Program& program, const std::string& what,
                      const std::function<int(const Client&, std::stop_token)>& wait) {
  const CaughtSignals signals;
  std::stop_source stop;
  StopOnSignal stopper(signals, stop);
  absl::StatusOr<Client> client = program.Connect();
  if (!client.ok()) return program.Fail(client.status());
  stopper.ReadyToStop();
  const int code = wait(*client, stop.get_token());
  const std::optional<signalfd_siginfo> signal = stopper.Finish();
  client->Close();  // takes back first what was given up
  if (!signal || code == kExitOk) return code;
  Say(internal::StrCat("stopped by a signal while waiting for the ", what));
  return EndBySignal(*signal);
}

}  // namespace coord::tools
