"""The parameter plan: a table, made from path rules, of which parameters are trained and how. Presets write its rows."""

from jaxft.param_plan.table import ParameterPlan, Setting, make_plan

__all__ = ["ParameterPlan", "Setting", "make_plan"]
