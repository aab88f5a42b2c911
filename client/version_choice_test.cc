#include "client/version_choice.h"

#include <gtest/gtest.h>

namespace weightstream {
namespace {

v1::Model Held(uint64_t highest) {
  v1::Model model;
  model.set_highest_version(highest);
  return model;
}

v1::Model WithUpdate(v1::Model model, uint64_t version, const std::string& source_id,
                     v1::UpdateState state = v1::UPDATE_STATE_RECEIVING) {
  v1::UpdateInfo& update = *model.add_updates();
  update.set_version(version);
  update.set_source_id(source_id);
  update.set_state(state);
  return model;
}

TEST(VersionChoiceTest, StartsAtOne) {
  EXPECT_EQ(ChooseVersion({}, "me"), 1u);
  EXPECT_EQ(ChooseVersion({v1::Model()}, "me"), 1u);
}

TEST(VersionChoiceTest, FollowsTheHighestOfAllServers) { EXPECT_EQ(ChooseVersion({Held(3), Held(7)}, "me"), 8u); }

TEST(VersionChoiceTest, PassesOthersUpdatesInFlight) {
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 9, "other"), Held(7)}, "me"), 10u);
}

TEST(VersionChoiceTest, IgnoresUpdatesThatHaveEnded) {
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 9, "me", v1::UPDATE_STATE_ABORTED)}, "me"), 4u);
}

TEST(VersionChoiceTest, ResumesOurOwnUpdate) {
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 9, "me"), Held(3)}, "me"), 9u);
}

TEST(VersionChoiceTest, DoesNotResumeWhatAnotherServerIsPast) {
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 4, "me"), Held(4)}, "me"), 5u);
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 4, "me"), WithUpdate(Held(3), 6, "other")}, "me"), 7u);
  EXPECT_EQ(ChooseVersion({WithUpdate(Held(3), 4, "me", v1::UPDATE_STATE_COMMITTING)}, "me"), 5u);
}

}  // namespace
}  // namespace weightstream
