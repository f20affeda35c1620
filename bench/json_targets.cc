// Compare-and-set of one field of a JSON document: by splicing, which loses nothing, against the
// same by decoding and encoding with cjson, which loses the order of names, numbers above 2^53 and
// empty arrays.
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/server_cost.h"
#include "bench/targets.h"
#include "coord/internal/strings.h"
#include "coord/script.h"
#include "scripts.h"

namespace coord::bench {
namespace {

using internal::ScriptText;
using internal::StrCat;

// The corpus. Each document has one field "state" (or "/job/state") that is "idle" or "busy" by
// turns.
enum class Form {
  kJob,      // a job's record: its id, the state, some more, and what is to be done
  kFlat,     // strings and numbers
  kMixed,    // records with arrays and objects in them, as an API sends them
  kNested,   // the same one level deeper; the field too
  kPretty,   // mixed, with line breaks and two blanks a level
  kEscaped,  // flat, with escapes and words that are not ASCII
};
enum class Place { kStart, kMiddle, kEnd };

struct Document {
  std::string name;
  Form form;
  std::size_t bytes;
  Place place;
};

std::string Member(const Document& document, int i) {
  switch (document.form) {
    case Form::kJob:
    case Form::kFlat:
      if (i % 3 == 2) return StrCat(R"("count)", i, R"(":)", 1000 + 37 * i);
      return StrCat(R"("field)", i, R"(":"value of )", i, R"(")");
    case Form::kEscaped:
      return StrCat(R"("field)", i, R"(":"a \"quoted\" line\nGr\u00fc\u00dfe, Zürich )", i, R"(")");
    case Form::kMixed:
    case Form::kNested:
      return StrCat(R"("step)", i, R"(":{"id":)", 4711 + i, R"(,"tags":["build","linux",)", i,
                    R"(],"took":1.)", 25 + i, R"(,"by":{"host":"node-)", i, R"(","ok":true}})");
    case Form::kPretty:
      return StrCat("\"step", i, "\": {\n    \"id\": ", 4711 + i,
                    ",\n    \"tags\": [\n      \"build\",\n      \"linux\"\n    ],\n    \"ok\": "
                    "true\n  }");
  }
  return {};
}

std::string Write(const Document& document) {
  const std::string_view comma = document.form == Form::kPretty ? ",\n  " : ",";
  const std::string_view colon = document.form == Form::kPretty ? ": " : ":";
  std::vector<std::string> members;
  std::size_t bytes = 30;
  for (int i = 0; bytes < document.bytes; ++i) {
    members.push_back(Member(document, i));
    bytes += members.back().size() + comma.size();
  }
  if (document.form == Form::kJob) {
    std::string text =
        R"({"id":"job-4711","state":"idle","owner":null,"attempts":3,"since":1763755200,"work":{)";
    for (std::size_t i = 0; text.size() < document.bytes; ++i) {
      text += StrCat(i == 0 ? "" : ",", members[i]);
    }
    return text + "}}";
  }
  const std::size_t at = document.place == Place::kStart    ? 0
                         : document.place == Place::kMiddle ? members.size() / 2
                                                            : members.size();
  members.insert(members.begin() + static_cast<std::ptrdiff_t>(at),
                 StrCat("\"state\"", colon, "\"idle\""));
  std::string text = document.form == Form::kPretty ? "{\n  " : "{";
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0) text += comma;
    text += members[i];
  }
  text += document.form == Form::kPretty ? "\n}\n" : "}";
  if (document.form == Form::kNested) text = StrCat(R"({"version":7,"job":)", text, "}");
  return text;
}

constexpr char kByCjson[] =
    "local text = redis.call('GET', KEYS[1]) "
    "if not text then return -1 end "
    "local document = cjson.decode(text) "
    "local holder = document "
    "if ARGV[4] then holder = document[ARGV[4]] end "
    "local current = holder[ARGV[1]] "
    "if current ~= cjson.decode(ARGV[2]) then return {0, 1, cjson.encode(current)} end "
    "holder[ARGV[1]] = cjson.decode(ARGV[3]) "
    "redis.call('SET', KEYS[1], cjson.encode(document), 'KEEPTTL') "
    "return 1";

// Each document is changed back and forth, so it is as it was after two rounds over all.
class Turns {
 public:
  std::pair<std::string_view, std::string_view> Next(int i) {
    if (i == 0) now_ = 1 - now_;
    return {kStates[now_], kStates[1 - now_]};
  }

 private:
  static constexpr std::string_view kStates[] = {R"("idle")", R"("busy!")"};
  std::size_t now_ = 1;
};

void Store(Run& run, std::string_view side, const Document& document) {
  HiredisCaller caller(run.server.socket_path());
  for (int i = 0; i < kDepth; ++i) {
    const std::string key = StrCat("json:", side, ":", document.name, ":", i);
    if (caller.Command({"SET", key, Write(document)}) == nullptr) Fatal("cannot store a document");
  }
}

Side Ours(const Document& document, Turns& turns, bool match) {
  const std::string path = document.form == Form::kNested ? "/job/state" : "/state";
  return {StrCat("splicing in ", document.name),
          {&internal::kJsonCas},
          [document, path, match, &turns](HiredisCaller& caller, int i) {
            const auto [now, next] = turns.Next(i);
            const std::string key = StrCat("json:ours:", document.name, ":", i);
            return caller.Append(internal::kJsonCas, {key},
                                 {"1", path, match ? now : R"("lost")", path, next});
          }};
}

void MeasureCas(Run& run, const std::string& id, Bound bound, const Document& document) {
  if (!run.report.Wants(id)) return;
  const Script by_cjson(kByCjson);
  const ScriptText script = TextOf(by_cjson, "cjson_cas");
  Store(run, "ours", document);
  Store(run, "theirs", document);
  Turns ours, theirs;
  Compare(run, id, bound, Ours(document, ours, true),
          {"decoding and encoding", {&script}, [&](HiredisCaller& caller, int i) {
             const auto [now, next] = theirs.Next(i);
             const std::string key = StrCat("json:theirs:", document.name, ":", i);
             if (document.form == Form::kNested) {
               return caller.Append(script, {key}, {"state", now, next, "job"});
             }
             return caller.Append(script, {key}, {"state", now, next});
           }});
}

// The same document, with a test that fails against one that holds.
void MeasureMismatch(Run& run, const std::string& id, const Document& document) {
  if (!run.report.Wants(id)) return;
  Store(run, "ours", document);
  Turns ignored, turns;
  Side failing = Ours(document, ignored, false);
  failing.name = "a test that fails";
  Side holding = Ours(document, turns, true);
  holding.name = "one that holds";
  Compare(run, id, Bound::AtMost(1.0), failing, holding);
}

}  // namespace

void MeasureJson(Run& run) {
  MeasureCas(run, "json.job200.server_cpu", Bound::AtMost(1.0),
             {"job200", Form::kJob, 200, Place::kStart});
  MeasureCas(run, "json.job4k.server_cpu", Bound::AtMost(0.6),
             {"job4k", Form::kJob, 4096, Place::kStart});
  MeasureCas(run, "json.flat200.server_cpu", Bound::AtMost(1.0),
             {"flat200", Form::kFlat, 200, Place::kMiddle});
  MeasureCas(run, "json.flat4k.server_cpu", Bound::AtMost(0.6),
             {"flat4k", Form::kFlat, 4096, Place::kMiddle});
  MeasureCas(run, "json.mixed200.server_cpu", Bound::AtMost(1.0),
             {"mixed200", Form::kMixed, 200, Place::kEnd});
  MeasureCas(run, "json.mixed4k.start.server_cpu", Bound::AtMost(0.6),
             {"mixed4k.start", Form::kMixed, 4096, Place::kStart});
  MeasureCas(run, "json.mixed4k.middle.server_cpu", Bound::AtMost(0.6),
             {"mixed4k.middle", Form::kMixed, 4096, Place::kMiddle});
  MeasureCas(run, "json.mixed4k.end.server_cpu", Bound::AtMost(0.6),
             {"mixed4k.end", Form::kMixed, 4096, Place::kEnd});
  MeasureCas(run, "json.nested4k.server_cpu", Bound::AtMost(3.5),
             {"nested4k", Form::kNested, 4096, Place::kEnd});
  MeasureCas(run, "json.pretty4k.server_cpu", Bound::AtMost(3.5),
             {"pretty4k", Form::kPretty, 4096, Place::kEnd});
  MeasureCas(run, "json.escaped4k.server_cpu", Bound::AtMost(3.5),
             {"escaped4k", Form::kEscaped, 4096, Place::kEnd});
  MeasureMismatch(run, "json.mismatch.flat200", {"m200", Form::kFlat, 200, Place::kMiddle});
  MeasureMismatch(run, "json.mismatch.mixed4k", {"m4k", Form::kMixed, 4096, Place::kEnd});
}

}  // namespace coord::bench
