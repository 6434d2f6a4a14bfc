"""What tests are made of: servers, disks, terminals, processes, clusters; each module says what it stands in for.

Programs that are run by hand lie beside this folder, and what a test proves is in the folders of tests.
"""
