from features.columns.catalog import FEATURES, Group, feature_of
from features.columns.table import tabulate
from features.columns.vector import FEATURE_NAMES, columns_of


def test_the_vector_has_the_columns_of_the_catalog_in_its_order() -> None:
    assert columns_of(tabulate([])).shape == (len(FEATURE_NAMES), 0)
    assert len(set(FEATURE_NAMES)) == len(FEATURES)


def test_a_column_is_a_feature_or_an_attribute() -> None:
    assert [feature_of(feature.name) for feature in FEATURES] == list(FEATURES)
    assert {feature.group for feature in FEATURES} == set(Group) - {Group.ATTRIBUTES}
    attribute = feature_of("attribute_age")
    assert (attribute.group, attribute.sign, attribute.smooth) == (Group.ATTRIBUTES, 0, True)
