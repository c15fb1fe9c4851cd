#include "fleet/device/device_database.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/ranges.h>
#include <boost/json.hpp>

#include "base/check.h"
#include "fleet/device/devices_json.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

constexpr size_t kMaxNameBytes = 100;
constexpr size_t kMaxPartSuffix = 3;  // SM8650-AB, SM8850P
constexpr size_t kMinFragment = 4;    // "gen3" may stand for what ends so, "3" for nothing
constexpr size_t kMaxNearest = 5;
// Vendors and words that come with names and tell nothing apart.
constexpr std::array kNoise = {
    std::string_view("qualcomm"), std::string_view("qcom"),      std::string_view("mediatek"),
    std::string_view("samsung"),  std::string_view("google"),    std::string_view("apple"),
    std::string_view("huawei"),   std::string_view("hisilicon"), std::string_view("mobile"),
    std::string_view("platform"), std::string_view("soc"),       std::string_view("technologies"),
    std::string_view("inc")};

bool IsLetter(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Lower-case runs of letters and digits; '+' is a word of its own.
std::vector<std::string> Words(std::string_view name) {
  std::vector<std::string> words;
  bool open = false;
  for (char c : name.substr(0, kMaxNameBytes)) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '+') {
      words.emplace_back("plus");
      open = false;
    } else if (IsLetter(c) || IsDigit(c)) {
      if (!open) words.emplace_back();
      words.back() += c;
      open = true;
    } else {
      open = false;
    }
  }
  return words;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (std::ranges::find(kNoise, word) == kNoise.end()) text += word;
  }
  return text;
}

// Insertions, deletions and replacements that turn one into the other.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// "sm8650ab" is the part "sm8650".
bool IsVersionOf(std::string_view text, std::string_view part) {
  if (!text.starts_with(part)) return false;
  const std::string_view rest = text.substr(part.size());
  return rest.size() <= kMaxPartSuffix && IsDigit(part.back()) &&
         std::ranges::all_of(rest, IsLetter);
}

std::string Names(const std::vector<const Soc*>& socs) {
  std::vector<std::string> names;
  for (const Soc* soc : socs) {
    names.push_back(soc->part == soc->name ? soc->name
                                           : fmt::format("{} ({})", soc->name, soc->part));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::optional<Basis> ParseBasis(std::string_view name) {
  for (const auto basis :
       {Basis::kRead, Basis::kComputed, Basis::kClaimed, Basis::kRecalled, Basis::kUnknown}) {
    if (BasisName(basis) == name) return basis;
  }
  return std::nullopt;
}

std::optional<Int4Weights> ParseInt4(std::string_view name) {
  if (name == "none") return Int4Weights::kNone;
  if (name == "channels") return Int4Weights::kChannels;
  if (name == "some") return Int4Weights::kSome;
  if (name == "groups") return Int4Weights::kGroups;
  return std::nullopt;
}

Result<Npu> ParseNpu(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  Npu npu{.name = fields.Text("name", JsonFields::kRequired)};
  if (const auto generation = fields.Number("generation")) {
    npu.generation = static_cast<int32_t>(std::min<uint64_t>(*generation, 10000));
  }
  if (const std::string text = fields.Text("int4_weights"); !text.empty()) {
    npu.int4_weights = ParseInt4(text);
    if (!npu.int4_weights) {
      fields.Fail("int4_weights", "must be groups, channels, some, none or null");
    }
  }
  npu.third_party = fields.Bool("third_party");
  npu.tops = fields.Real("tops");
  npu.session_gb = fields.Real("session_gb");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return npu;
}

Status ParseMemory(const json::value& value, std::string where, Soc* soc) {
  JsonFields fields(value, std::move(where));
  soc->memory_type = fields.Text("type");
  soc->bandwidth_gb_s = fields.Real("bandwidth_gb_s");
  const std::string basis = fields.Text("basis", JsonFields::kRequired);
  if (const auto parsed = ParseBasis(basis)) {
    soc->bandwidth_basis = *parsed;
  } else {
    fields.Fail("basis", "must be read, computed, claimed, recalled or unknown");
  }
  if (soc->bandwidth_gb_s.has_value() == (soc->bandwidth_basis == Basis::kUnknown)) {
    fields.Fail("basis", "must be unknown where bandwidth_gb_s is null, and only there");
  }
  if (soc->bandwidth_gb_s && !(*soc->bandwidth_gb_s > 0)) {
    fields.Fail("bandwidth_gb_s", "must be above 0, or null");
  }
  return fields.Done();
}

Status ParseDriver(const json::value& value, std::string where, Soc* soc) {
  JsonFields fields(value, std::move(where));
  soc->driver_name = fields.Text("name", JsonFields::kRequired);
  const auto version = DriverVersion::Parse(fields.Text("version", JsonFields::kRequired));
  if (version) {
    soc->min_driver = *version;
  } else {
    fields.Fail("version", "must be numbers with dots");
  }
  return fields.Done();
}

Result<Soc> ParseSoc(const json::value& value, const std::string& where) {
  JsonFields fields(value, where);
  Soc soc{.name = fields.Text("name", JsonFields::kRequired),
          .vendor = fields.Text("vendor", JsonFields::kRequired),
          .part = fields.Text("part", JsonFields::kRequired),
          .aliases = fields.Texts("aliases"),
          .qnn_soc_id = {},
          .npu = {},
          .sources = fields.Texts("sources", JsonFields::kRequired),
          .note = fields.Text("note")};
  if (const auto id = fields.Number("qnn_soc_id")) soc.qnn_soc_id = static_cast<uint32_t>(*id);
  const json::value* npu = fields.Object("npu", JsonFields::kRequired);
  const json::value* memory = fields.Object("memory", JsonFields::kRequired);
  const json::value* driver = fields.Object("min_driver");
  const auto ram = fields.List("ram_gb");
  if (!ram.empty()) {
    if (ram.size() != 2 || !ram[0]->is_int64() || !ram[1]->is_int64() || ram[0]->get_int64() < 1 ||
        ram[1]->get_int64() < ram[0]->get_int64() || ram[1]->get_int64() > 1024) {
      fields.Fail("ram_gb", "must be the least and the most, in GB");
    } else {
      soc.ram_gb.emplace(static_cast<int32_t>(ram[0]->get_int64()),
                         static_cast<int32_t>(ram[1]->get_int64()));
    }
  }
  if (soc.sources.empty()) fields.Fail("sources", "must name where the row comes from");
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TANDEM_ASSIGN_OR_RETURN(soc.npu, ParseNpu(*npu, where + ".npu"));
  TANDEM_RETURN_IF_ERROR(ParseMemory(*memory, where + ".memory", &soc));
  if (driver != nullptr) {
    TANDEM_RETURN_IF_ERROR(ParseDriver(*driver, where + ".min_driver", &soc));
  }
  return soc;
}

// What is within a third of its letters, the nearest first.
std::vector<const Soc*> Sorted(std::vector<std::pair<size_t, const Soc*>> near) {
  std::ranges::sort(near);  // within a distance in the order of the rows
  std::vector<const Soc*> socs;
  for (const auto& [distance, soc] : near) {
    if (std::ranges::find(socs, soc) == socs.end()) socs.push_back(soc);
    if (socs.size() == kMaxNearest) break;
  }
  return socs;
}

}  // namespace

std::string_view BasisName(Basis basis) {
  switch (basis) {
    case Basis::kRead:
      return "read";
    case Basis::kComputed:
      return "computed";
    case Basis::kClaimed:
      return "claimed";
    case Basis::kRecalled:
      return "recalled";
    case Basis::kMeasured:
      return "measured";
    case Basis::kUnknown:
      return "unknown";
  }
  return "unknown";
}

std::string NormalisedSocName(std::string_view name) { return Joined(Words(name)); }

std::string SocMatch::Explain(std::string_view name) const {
  const std::string shown(name.substr(0, kMaxNameBytes));
  if (!candidates.empty()) {
    return fmt::format("the SoC '{}' can be any of {}: name one of them", shown, Names(candidates));
  }
  if (!nearest.empty()) {
    return fmt::format("the SoC '{}' is unknown; did you mean {}?", shown, Names(nearest));
  }
  return fmt::format(
      "the SoC '{}' is unknown; give its part number (Build.SOC_MODEL), for example SM8650", shown);
}

DeviceDatabase::DeviceDatabase(std::vector<Soc> socs) : socs_(std::move(socs)) {
  for (size_t i = 0; i < socs_.size(); ++i) {
    keys_.push_back({NormalisedSocName(socs_[i].name), i, false});
    keys_.push_back({NormalisedSocName(socs_[i].part), i, true});
    for (const std::string& alias : socs_[i].aliases) {
      keys_.push_back({NormalisedSocName(alias), i, false});
    }
  }
}

Result<DeviceDatabase> DeviceDatabase::Parse(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, "the device database"));
  JsonFields table(value, "the device database");
  const auto rows = table.List("socs", JsonFields::kRequired);
  TANDEM_RETURN_IF_ERROR(table.Done());
  std::vector<Soc> socs;
  for (size_t i = 0; i < rows.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Soc soc,
                            ParseSoc(*rows[i], fmt::format("the device database's socs[{}]", i)));
    socs.push_back(std::move(soc));
  }
  DeviceDatabase database(std::move(socs));
  std::set<std::pair<std::string, size_t>> seen;
  for (const Key& key : database.keys_) {
    const std::string& name = database.socs_[key.soc].name;
    if (key.text.empty()) {
      return Err(ErrorCode::kCorrupt, "the device database: {} has a name without letters", name);
    }
    for (const auto& [other, soc] : seen) {
      if (other == key.text && soc != key.soc) {
        return Err(ErrorCode::kCorrupt, "the device database: '{}' is both {} and {}", key.text,
                   database.socs_[soc].name, name);
      }
    }
    seen.emplace(key.text, key.soc);
  }
  return database;
}

const DeviceDatabase& DeviceDatabase::BuiltIn() {
  static const DeviceDatabase database = [] {
    Result<DeviceDatabase> parsed = Parse(DevicesJson());
    TANDEM_CHECK(parsed);  // a test parses the same bytes
    return std::move(parsed).value();
  }();
  return database;
}

SocMatch DeviceDatabase::Find(std::string_view name) const {
  SocMatch match;
  const std::vector<std::string> words = Words(name);
  const std::string wanted = Joined(words);
  if (wanted.empty()) return match;

  const auto add = [&](const Key& key) {
    const Soc* soc = &socs_[key.soc];
    if (std::ranges::find(match.candidates, soc) == match.candidates.end()) {
      match.candidates.push_back(soc);
    }
  };
  // One rule after the other; the first that fits anything decides.
  const auto decided = [&] {
    if (match.candidates.size() == 1) match.soc = std::exchange(match.candidates, {}).front();
    return match.soc != nullptr || !match.candidates.empty();
  };
  for (const Key& key : keys_) {
    if (key.text == wanted) add(key);
  }
  if (decided()) return match;
  for (const Key& key : keys_) {
    if (!key.is_part) continue;
    const auto is_it = [&](std::string_view text) { return IsVersionOf(text, key.text); };
    if (is_it(wanted) || std::ranges::any_of(words, is_it)) add(key);
  }
  if (decided()) return match;
  if (wanted.size() >= kMinFragment) {
    for (const Key& key : keys_) {
      if (key.text.starts_with(wanted) || key.text.ends_with(wanted)) add(key);
    }
  }
  if (decided()) return match;
  std::vector<std::pair<size_t, const Soc*>> near;
  const size_t allowed = wanted.size() < kMinFragment ? 1 : std::max<size_t>(2, wanted.size() / 4);
  for (const Key& key : keys_) {
    const size_t distance = EditDistance(wanted, key.text);
    if (distance <= allowed) {
      near.emplace_back(distance, &socs_[key.soc]);
    }
  }
  match.nearest = Sorted(std::move(near));
  return match;
}

}  // namespace tandem::fleet
