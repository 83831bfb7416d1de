"""A second model beside the one in use."""
