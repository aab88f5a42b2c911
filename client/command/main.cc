#include "client/command/command_main.h"

int main(int argc, char** argv) { return weightstream::command::CommandMain(argc, argv); }
