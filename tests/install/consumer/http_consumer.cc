// Uses the HTTP session from outside: nothing is cached, and nobody is asked.
#include <iostream>

#include "cache/http/session.h"

int main() {
  const absl::StatusOr<coord::http::Session> session =
      coord::http::Session::Open({.backend = "memory"});
  if (!session.ok()) {
    std::cerr << session.status() << '\n';
    return 1;
  }
  const absl::StatusOr<coord::http::Response> response =
      session->Get("http://consumer.invalid/", {.only_if_cached = true});
  if (!response.ok() || response->status() != 504) {
    std::cerr << response.status() << '\n';
    return 1;
  }
  return 0;
}
