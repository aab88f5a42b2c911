// Holds weightstream.proto to wire_contract.txt: what peers of other versions rely on may be added to, never changed.
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "weightstream/v1/weightstream.pb.h"

namespace weightstream {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

constexpr char kContractFile[] = "proto/wire_contract.txt";

std::string TypeName(const FieldDescriptor& field) {
  if (field.message_type() != nullptr) return field.message_type()->full_name();
  if (field.enum_type() != nullptr) return field.enum_type()->full_name();
  return field.type_name();
}

std::string FieldType(const FieldDescriptor& field) {
  if (field.is_map()) {
    const Descriptor& entry = *field.message_type();
    return absl::StrCat("map<", TypeName(*entry.field(0)), ",", TypeName(*entry.field(1)), ">");
  }
  // Packed or not is part of the bytes that old readers must understand.
  if (field.is_repeated()) return absl::StrCat(field.is_packed() ? "packed " : "repeated ", TypeName(field));
  return absl::StrCat(field.has_optional_keyword() ? "optional " : "", TypeName(field));
}

void AddFields(const Descriptor& message, std::set<std::string>* lines) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    lines->insert(
        absl::StrCat("field ", message.name(), " ", field.name(), " ", field.number(), " ", FieldType(field)));
  }
}

void AddValues(const EnumDescriptor& enumeration, std::set<std::string>* lines) {
  for (int i = 0; i < enumeration.value_count(); ++i) {
    const auto& value = *enumeration.value(i);
    lines->insert(absl::StrCat("value ", enumeration.name(), " ", value.name(), " ", value.number()));
  }
}

void AddMethods(const ServiceDescriptor& service, std::set<std::string>* lines) {
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    lines->insert(absl::StrCat("rpc ", service.full_name(), " ", method.name(), " ",
                               method.client_streaming() ? "stream " : "", method.input_type()->name(), " -> ",
                               method.server_streaming() ? "stream " : "", method.output_type()->name()));
  }
}

std::set<std::string> LinesOfTheProto() {
  const FileDescriptor& file = *v1::WeightChunk::descriptor()->file();
  std::set<std::string> lines;
  for (int i = 0; i < file.message_type_count(); ++i) AddFields(*file.message_type(i), &lines);
  for (int i = 0; i < file.enum_type_count(); ++i) AddValues(*file.enum_type(i), &lines);
  for (int i = 0; i < file.service_count(); ++i) AddMethods(*file.service(i), &lines);
  return lines;
}

std::set<std::string> LinesOfTheContract() {
  std::ifstream file(kContractFile);
  EXPECT_TRUE(file.is_open()) << kContractFile << " is not in the test's runfiles";
  std::set<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    EXPECT_TRUE(lines.insert(line).second) << "twice in the contract: " << line;
  }
  return lines;
}

TEST(WireContractTest, WhatWasPromisedIsUnchanged) {
  const std::set<std::string> proto = LinesOfTheProto();
  for (const std::string& line : LinesOfTheContract()) {
    EXPECT_EQ(proto.count(line), 1u) << "weightstream.proto no longer has: " << line
                                     << "\nPeers of other versions rely on it; add a new field or method instead.";
  }
}

TEST(WireContractTest, WhatIsNewIsPromised) {
  const std::set<std::string> contract = LinesOfTheContract();
  for (const std::string& line : LinesOfTheProto()) {
    EXPECT_EQ(contract.count(line), 1u) << "append to " << kContractFile << ": " << line;
  }
}

// The receiver parses what describes the data before it touches them: nothing may come after them.
TEST(WireContractTest, DataHaveTheHighestNumberOfAChunk) {
  const Descriptor& chunk = *v1::WeightChunk::descriptor();
  for (int i = 0; i < chunk.field_count(); ++i) {
    EXPECT_LE(chunk.field(i)->number(), chunk.FindFieldByName("data")->number()) << chunk.field(i)->name();
  }
}

}  // namespace
}  // namespace weightstream
