// Charter of fleet/json: JSON documents of the fleet wing: fields that name their place when they
// are wrong (this header), and bytes that are fit to be signed (canonical.h). It may include base.
// It knows no document.
//
// Reads one JSON object. The first thing that is wrong with it is kept, so that a reader may take
// all fields and ask once at the end. null and absence are the same: nothing is known.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/error.h"

namespace tandem::fleet {

// Parses a whole document. Errors: kCorrupt, "WHAT is not JSON: ..."; nesting is limited to 32.
Result<boost::json::value> ParseJson(std::string_view text, std::string_view what);

class JsonFields {
 public:
  enum class Need { kOptional, kRequired };
  using enum Need;

  // `where` begins every message: "the model catalogue's models[3]". The value outlives the object.
  JsonFields(const boost::json::value& value, std::string where);

  // Empty where it is absent. Strings are at most 64 KiB.
  std::string Text(const char* name, Need need = kOptional);
  std::optional<uint64_t> Number(const char* name, Need need = kOptional);
  // 0 where it is absent; `max` bounds it.
  int32_t Count(const char* name, int32_t max, Need need = kOptional);
  std::optional<double> Real(const char* name, Need need = kOptional);
  std::optional<bool> Bool(const char* name, Need need = kOptional);
  // Elements of a list; empty where it is absent.
  std::vector<const boost::json::value*> List(const char* name, Need need = kOptional);
  std::vector<std::string> Texts(const char* name, Need need = kOptional);
  // An object inside this one; null where it is absent.
  const boost::json::value* Object(const char* name, Need need = kOptional);

  // "WHERE: FIELD PROBLEM", unless something was wrong before.
  void Fail(std::string_view field, std::string_view problem);
  // kCorrupt where anything was wrong.
  Status Done() const;
  bool failed() const { return !failure_.empty(); }
  const std::string& where() const { return where_; }

 private:
  const boost::json::value* Member(const char* name, Need need);

  const boost::json::object* object_ = nullptr;
  std::string where_;
  std::string failure_;
};

}  // namespace tandem::fleet
