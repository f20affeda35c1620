#include "coord/deployment/listening.h"

#include <string_view>
#include <utility>

#include "coord/internal/deadline.h"

namespace coord::internal {

class Listening::Ear final : public Sleeper {
 public:
  void OnMessage(std::string_view) override { Wake(); }
  void Wake() {
    MutexLock lock(mutex_);
    called_ = true;
    changed_.NotifyAll();
  }
  void Sleep(SteadyTime until) {
    MutexLock lock(mutex_);
    while (!called_ && !Passed(until)) changed_.WaitUntil(mutex_, until);
    called_ = false;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool called_ ABSL_GUARDED_BY(mutex_) = false;
};

Listening::Listening(Session& session, std::string id)
    : session_(session), id_(std::move(id)), ear_(std::make_shared<Ear>()) {
  session_.wakes().Add(id_, ear_);
  session_.wakes().Want(1);
  session_.background().Look();
}

Listening::~Listening() {
  session_.wakes().Want(-1);
  session_.wakes().Remove(id_);
}

void Listening::Sleep(SteadyTime until) { ear_->Sleep(until); }
void Listening::Wake() { ear_->Wake(); }

}  // namespace coord::internal
