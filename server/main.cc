#include "server/server_main.h"

int main(int argc, char** argv) { return weightstream::ServerMain(argc, argv); }
