// Somebody else's program: names come as every kind of string there is.
#include <cstdio>
#include <string>
#include <string_view>

#include "coord/client.h"
#include "coord/mutex.h"

int main() {
  const absl::StatusOr<coord::Client> client = coord::Client::Connect();
  if (!client.ok()) {
    std::fprintf(stderr, "%s\n", client.status().ToString().c_str());
    return 1;
  }
  const std::string text = "a";
  const char* pointer = "b";
  const std::string_view view = "c";
  for (const coord::Mutex& mutex :
       {coord::Mutex(*client, text), coord::Mutex(*client, pointer), coord::Mutex(*client, view)}) {
    absl::StatusOr<coord::Lease> lease = mutex.Acquire(absl::Seconds(5));
    if (!lease.ok() || !lease->Release().ok()) return 1;
  }
  return 0;
}
