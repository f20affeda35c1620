// Private: waiting for the messages of one id, by a caller who reads the state anew after each.
#ifndef COORD_DEPLOYMENT_LISTENING_H_
#define COORD_DEPLOYMENT_LISTENING_H_

#include <memory>
#include <string>

#include "coord/deployment/session.h"
#include "coord/internal/sync.h"

namespace coord::internal {

// Messages for `id` wake whoever sleeps here, as long as this lives. One thread sleeps; any may
// wake it. Where the process does not listen yet, Session::Listen makes it.
class Listening {
 public:
  // `session` is borrowed.
  Listening(Session& session, std::string id);
  ~Listening();
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

  // Until `until`, or until it has been woken since it last slept.
  void Sleep(SteadyTime until);
  void Wake();

 private:
  class Ear;

  Session& session_;
  const std::string id_;
  const std::shared_ptr<Ear> ear_;
};

}  // namespace coord::internal

#endif  // COORD_DEPLOYMENT_LISTENING_H_
