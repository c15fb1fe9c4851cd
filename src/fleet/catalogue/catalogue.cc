#include "fleet/catalogue/catalogue.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include <boost/json.hpp>

#include "base/check.h"
#include "fleet/catalogue/models_json.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

bool IsAsciiAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// Reads one object of the table; the first thing that is wrong is kept.
class Fields {
 public:
  Fields(const json::value& value, std::string where) : where_(std::move(where)) {
    object_ = value.if_object();
    if (object_ == nullptr) Fail("", "must be an object");
  }

  // null and absence are the same: nothing is known.
  std::string Text(const char* name, bool required) {
    const json::value* value = Member(name, required);
    if (value == nullptr) return {};
    if (!value->is_string()) {
      Fail(name, "must be a string");
      return {};
    }
    return std::string(value->get_string());
  }

  std::optional<uint64_t> Number(const char* name) {
    const json::value* value = Member(name, false);
    if (value == nullptr) return std::nullopt;
    boost::system::error_code error;
    const auto number = value->to_number<uint64_t>(error);
    if (error) {
      Fail(name, "must be a whole number that is not negative");
      return std::nullopt;
    }
    return number;
  }

  std::vector<const json::value*> List(const char* name) {
    const json::value* value = Member(name, false);
    if (value == nullptr) return {};
    std::vector<const json::value*> elements;
    if (const json::array* array = value->if_array()) {
      for (const json::value& element : *array) elements.push_back(&element);
    } else {
      Fail(name, "must be a list");
    }
    return elements;
  }

  void Fail(std::string_view field, std::string_view problem) {
    if (failure_.empty()) failure_ = fmt::format("{}: {} {}", where_, field, problem);
  }
  const std::string& failure() const { return failure_; }
  const std::string& where() const { return where_; }

 private:
  const json::value* Member(const char* name, bool required) {
    const json::value* value = object_ != nullptr ? object_->if_contains(name) : nullptr;
    if (value != nullptr && value->is_null()) value = nullptr;
    if (value == nullptr && required) Fail(name, "is missing");
    return value;
  }

  const json::object* object_ = nullptr;
  std::string where_;
  std::string failure_;
};

Result<HubSource> ParseSource(const json::value& value, std::string where) {
  Fields fields(value, std::move(where));
  HubSource source{.repo = fields.Text("hub", true),
                   .quant = fields.Text("quant", true),
                   .size_bytes = fields.Number("size_bytes"),
                   .sha256 = fields.Text("sha256", false)};
  if (std::string revision = fields.Text("revision", false); !revision.empty()) {
    source.revision = std::move(revision);
  }
  if (!IsHubRepo(source.repo)) fields.Fail("hub", "must be USER/NAME");
  if (!source.sha256.empty() && !IsSha256Hex(source.sha256)) {
    fields.Fail("sha256", "must be 64 lower-case hexadecimal digits, or null");
  }
  if (!fields.failure().empty()) return Err(ErrorCode::kCorrupt, "{}", fields.failure());
  return source;
}

Result<CatalogueEntry> ParseEntry(const json::value& value, const std::string& where) {
  Fields fields(value, where);
  CatalogueEntry entry{.name = fields.Text("name", true),
                       .aliases = {},
                       .title = fields.Text("title", true),
                       .license = fields.Text("license", true),
                       .sources = {},
                       .bundled_file = fields.Text("bundled", false)};
  for (const json::value* alias : fields.List("aliases")) {
    if (!alias->is_string()) {
      fields.Fail("aliases", "must be strings");
      break;
    }
    entry.aliases.emplace_back(alias->get_string());
  }
  const auto sources = fields.List("sources");
  for (size_t i = 0; i < sources.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(HubSource source,
                            ParseSource(*sources[i], fmt::format("{}.sources[{}]", where, i)));
    entry.sources.push_back(std::move(source));
  }
  if (entry.sources.empty() == entry.bundled_file.empty()) {
    fields.Fail("sources", "or bundled, exactly one of them, must say where the files come from");
  }
  if (!entry.bundled_file.empty() && !IsSafeFileName(entry.bundled_file)) {
    fields.Fail("bundled", "must be a plain file name");
  }
  if (!fields.failure().empty()) return Err(ErrorCode::kCorrupt, "{}", fields.failure());
  return entry;
}

}  // namespace

Result<Catalogue> Catalogue::Parse(std::string_view text) {
  boost::system::error_code error;
  const json::value value = json::parse(json::string_view(text.data(), text.size()), error);
  if (error)
    return Err(ErrorCode::kCorrupt, "the model catalogue is not JSON: {}", error.message());
  Fields table(value, "the model catalogue");
  const auto models = table.List("models");
  if (!table.failure().empty()) return Err(ErrorCode::kCorrupt, "{}", table.failure());
  std::vector<CatalogueEntry> entries;
  std::set<std::string, std::less<>> names;
  for (size_t i = 0; i < models.size(); ++i) {
    const std::string where = fmt::format("the model catalogue's models[{}]", i);
    TANDEM_ASSIGN_OR_RETURN(CatalogueEntry entry, ParseEntry(*models[i], where));
    std::vector<std::string> all = entry.aliases;
    all.push_back(entry.name);
    for (const std::string& name : all) {
      // A name with a slash or a suffix would be read as a path or a hub reference.
      if (!IsSafeFileName(name) || name.ends_with(".gguf")) {
        return Err(ErrorCode::kCorrupt, "{}: '{}' cannot be a model's name", where, name);
      }
      if (!names.insert(name).second) {
        return Err(ErrorCode::kCorrupt, "{}: the name '{}' is taken", where, name);
      }
    }
    entries.push_back(std::move(entry));
  }
  return Catalogue(std::move(entries));
}

const Catalogue& Catalogue::BuiltIn() {
  static const Catalogue catalogue = [] {
    Result<Catalogue> parsed = Parse(ModelsJson());
    TANDEM_CHECK(parsed);  // a test parses the same bytes
    return std::move(parsed).value();
  }();
  return catalogue;
}

const CatalogueEntry* Catalogue::Find(std::string_view name) const {
  for (const CatalogueEntry& entry : entries_) {
    if (entry.name == name) return &entry;
    if (std::ranges::find(entry.aliases, name) != entry.aliases.end()) return &entry;
  }
  return nullptr;
}

bool IsSha256Hex(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool IsHubRepo(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == text.npos) return false;
  for (const std::string_view part : {text.substr(0, slash), text.substr(slash + 1)}) {
    if (part.empty() || part.size() > 96 || part == "." || part == "..") return false;
    for (const char c : part) {
      if (!IsAsciiAlnum(c) && c != '.' && c != '_' && c != '-') return false;
    }
  }
  return true;
}

bool IsSafeFileName(std::string_view text) {
  if (text.empty() || text.size() > 200 || text.front() == '.') return false;
  return std::ranges::all_of(
      text, [](char c) { return IsAsciiAlnum(c) || c == '.' || c == '_' || c == '-' || c == '+'; });
}

}  // namespace tandem::fleet
