#include "fleet/catalogue/catalogue.h"

#include <algorithm>
#include <set>
#include <utility>

#include <boost/json.hpp>

#include "base/check.h"
#include "fleet/catalogue/models_json.h"
#include "fleet/json/fields.h"

namespace tandem::fleet {
namespace {

namespace json = boost::json;

bool IsAsciiAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

Result<HubSource> ParseSource(const json::value& value, std::string where) {
  JsonFields fields(value, std::move(where));
  HubSource source{.repo = fields.Text("hub", JsonFields::kRequired),
                   .quant = fields.Text("quant", JsonFields::kRequired),
                   .size_bytes = fields.Number("size_bytes"),
                   .sha256 = fields.Text("sha256")};
  if (std::string revision = fields.Text("revision"); !revision.empty()) {
    source.revision = std::move(revision);
  }
  if (!IsHubRepo(source.repo)) fields.Fail("hub", "must be USER/NAME");
  if (!source.sha256.empty() && !IsSha256Hex(source.sha256)) {
    fields.Fail("sha256", "must be 64 lower-case hexadecimal digits, or null");
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  return source;
}

Status ParseVariants(const std::vector<const json::value*>& values, const std::string& where,
                     std::vector<Variant>* variants) {
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string place = fmt::format("{}.variants[{}]", where, i);
    TANDEM_ASSIGN_OR_RETURN(Variant variant, ParseVariant(*values[i], place));
    if (std::ranges::find(*variants, variant.name, &Variant::name) != variants->end()) {
      return Err(ErrorCode::kCorrupt, "{}: name '{}' is another variant's", place, variant.name);
    }
    variants->push_back(std::move(variant));
  }
  return {};
}

Result<CatalogueEntry> ParseEntry(const json::value& value, const std::string& where) {
  constexpr int32_t kMillion = 1000000;
  JsonFields fields(value, where);
  CatalogueEntry entry{
      .name = fields.Text("name", JsonFields::kRequired),
      .aliases = fields.Texts("aliases"),
      .title = fields.Text("title", JsonFields::kRequired),
      .license = fields.Text("license", JsonFields::kRequired),
      .sources = {},
      .bundled_file = fields.Text("bundled"),
      .built_from = fields.Text("built_from"),
      .cloud = fields.Bool("cloud").value_or(false),
      .shape = {},
      .min_kept_accuracy_ppm =
          static_cast<uint32_t>(fields.Count("min_kept_accuracy_ppm", kMillion)),
      .min_free_ram_gb = static_cast<uint32_t>(fields.Count("min_free_ram_gb", kMillion))};
  const auto sources = fields.List("sources");
  const auto variants = fields.List("variants");
  const int n_places =
      (sources.empty() ? 0 : 1) + (entry.bundled_file.empty() ? 0 : 1) + (entry.cloud ? 1 : 0);
  if (n_places != 1) {
    fields.Fail("sources",
                "or bundled or cloud, exactly one of them, must say where the model comes from");
  }
  if (!entry.bundled_file.empty() && !IsSafeFileName(entry.bundled_file)) {
    fields.Fail("bundled", "must be a plain file name");
  }
  if (entry.cloud && !variants.empty()) {
    fields.Fail("variants", "are for devices; a model of the cloud has none");
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  for (size_t i = 0; i < sources.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(HubSource source,
                            ParseSource(*sources[i], fmt::format("{}.sources[{}]", where, i)));
    entry.sources.push_back(std::move(source));
  }
  if (const json::value* shape = fields.Object("shape")) {
    TANDEM_ASSIGN_OR_RETURN(entry.shape, ParseShape(*shape, where + ".shape"));
  }
  TANDEM_RETURN_IF_ERROR(fields.Done());
  TANDEM_RETURN_IF_ERROR(ParseVariants(variants, where, &entry.variants));
  return entry;
}

// Puts what a manifest says into the entry of its model.
void Merge(const PackageManifest& manifest, CatalogueEntry* entry) {
  if (manifest.shape) entry->shape = manifest.shape;
  // A manifest may ask more than the table, never less.
  entry->min_kept_accuracy_ppm =
      std::max(entry->min_kept_accuracy_ppm, manifest.min_kept_accuracy_ppm);
  Variant variant = manifest.variant;
  variant.size_bytes = manifest.size_bytes();
  const auto found = std::ranges::find(entry->variants, variant.name, &Variant::name);
  if (found != entry->variants.end()) {
    *found = std::move(variant);
  } else {
    entry->variants.push_back(std::move(variant));
  }
}

}  // namespace

Result<Catalogue> Catalogue::Parse(std::string_view text) {
  TANDEM_ASSIGN_OR_RETURN(const json::value value, ParseJson(text, "the model catalogue"));
  JsonFields table(value, "the model catalogue");
  const auto models = table.List("models");
  TANDEM_RETURN_IF_ERROR(table.Done());
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

Result<Catalogue> Catalogue::With(const std::vector<PackageManifest>& manifests) const {
  Catalogue merged = *this;
  for (const PackageManifest& manifest : manifests) {
    const CatalogueEntry* known = merged.Find(manifest.model);
    for (const std::string& alias : manifest.aliases) {
      const CatalogueEntry* other = merged.Find(alias);
      if (other == nullptr || other == known) continue;
      return Err(ErrorCode::kAlreadyExists,
                 "the manifest of {} takes the name '{}', which is {}'s: another alias, or none",
                 manifest.model, alias, other->name);
    }
    if (known == nullptr) {
      merged.entries_.push_back({.name = manifest.model,
                                 .aliases = manifest.aliases,
                                 .title = manifest.title,
                                 .license = manifest.license,
                                 .sources = {},
                                 .bundled_file = {}});
    } else if (known->name != manifest.model || known->cloud) {
      return Err(ErrorCode::kAlreadyExists,
                 "the manifest's model '{}' is {}; give the package another model's name",
                 manifest.model,
                 known->cloud ? "answered in the cloud" : "another name of " + known->name);
    }
    const auto entry = std::ranges::find(merged.entries_, manifest.model, &CatalogueEntry::name);
    Merge(manifest, &*entry);
  }
  return merged;
}

const Variant* CatalogueEntry::FindVariant(std::string_view quantization, std::string_view platform,
                                           bool npu) const {
  for (const Variant& variant : variants) {
    if (!quantization.empty() && !variant.IsQuantization(quantization)) continue;
    if (!platform.empty() && !variant.RunsOn(platform)) continue;
    if ((variant.accelerator == Accelerator::kNpu) == npu) return &variant;
  }
  return nullptr;
}

const Variant* CatalogueEntry::FindVariant(std::string_view variant_name) const {
  const auto found = std::ranges::find(variants, variant_name, &Variant::name);
  return found == variants.end() ? nullptr : &*found;
}

Result<MemoryNeeds> NeedsOf(const CatalogueEntry& entry, const Variant& variant,
                            int32_t context_tokens) {
  if (!entry.shape) {
    return Err(ErrorCode::kUnsupported,
               "the shape of {} is unknown, and so is the memory that it needs", entry.name);
  }
  TANDEM_ASSIGN_OR_RETURN(MemoryNeeds needs, ComputeNeeds(*entry.shape, variant, context_tokens));
  needs.floor_gb = entry.min_free_ram_gb;
  return needs;
}

std::string WhyNotDeployable(const CatalogueEntry& entry, const Variant& variant) {
  if (!variant.certificate) {
    return fmt::format(
        "{} of {} has no certificate: nobody has signed what its quality and speed are; it can be "
        "deployed by name, and is not chosen by itself",
        variant.name, entry.name);
  }
  const auto kept = variant.certificate->kept_accuracy_ppm();
  if (!kept) {
    return fmt::format("the certificate of {} of {} has no exam: its quality is unknown",
                       variant.name, entry.name);
  }
  if (*kept < entry.min_kept_accuracy_ppm) {
    return fmt::format("{} of {} kept {:.1f} % of the reference's right answers; {:.1f} % is asked",
                       variant.name, entry.name, *kept / 1e4, entry.min_kept_accuracy_ppm / 1e4);
  }
  return {};
}

const CatalogueEntry* Catalogue::FindOnDevice(std::string_view name) const {
  const CatalogueEntry* entry = Find(name);
  return entry != nullptr && entry->cloud ? nullptr : entry;
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
