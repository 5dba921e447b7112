"""The parts of the TRIPOD+AI checklist: 27 items in 52 parts, in our own short words.

Source: Collins et al. 2024, BMJ 385:e078378. D: studies that develop a model, E: that evaluate one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part of an item.

    Attributes:
        code: As ``12c``; the digits are the item.
        section: Section of a paper.
        topic: Topic in a few words.
        asks: What is to be reported.
        applies: ``D``, ``E`` or ``D;E``.
        remains: What no run can say, if it can say something.
    """

    code: str
    section: str
    topic: str
    asks: str
    applies: str = "D;E"
    remains: str = ""

    @property
    def item(self) -> int:
        """Number of the item, 1 to 27."""
        return int(self.code.rstrip("abcdefg"))


TITLE, INTRODUCTION, METHODS = "Title and abstract", "Introduction", "Methods"
OPEN, INVOLVEMENT, RESULTS = "Open science", "Patient and public involvement", "Results"
DISCUSSION = "Discussion"

PARTS: tuple[Part, ...] = (
    Part("1", TITLE, "Title", "model development or evaluation, population, outcome"),
    Part("2", TITLE, "Abstract", "the items of TRIPOD+AI for abstracts"),
    Part("3a", INTRODUCTION, "Background", "clinical context, reason for the model, earlier ones"),
    Part("3b", INTRODUCTION, "Background", "target population, place in the care pathway, users"),
    Part("3c", INTRODUCTION, "Background", "known inequalities in health between groups"),
    Part("4", INTRODUCTION, "Objectives", "aims; development, evaluation or both"),
    Part("5a", METHODS, "Data", "sources of the data of each split, why these, how representative",
         remains="why this source, and how representative it is"),
    Part("5b", METHODS, "Data", "dates of accrual and end of follow-up",
         remains="dates of accrual, where records were made later"),
    Part("6a", METHODS, "Participants", "setting, number and place of centres",
         remains="the setting, and where the centres are"),
    Part("6b", METHODS, "Participants", "who was eligible",
         remains="how the source cohort recruited"),
    Part("6c", METHODS, "Participants", "treatments, and how they were dealt with"),
    Part("7", METHODS, "Data preparation", "cleaning and quality checks, alike in all groups?",
         remains="whether quality differs between groups"),
    Part("8a", METHODS, "Outcome", "definition, time horizon, how it was assessed, why",
         remains="how and why it was assessed"),
    Part("8b", METHODS, "Outcome", "who assessed a subjective outcome"),
    Part("8c", METHODS, "Outcome", "blinding of the assessment"),
    Part("9a", METHODS, "Predictors", "why these predictors, and what was selected before", "D"),
    Part("9b", METHODS, "Predictors", "definition, how and when measured, blinding",
         remains="when they were measured, and blinding"),
    Part("9c", METHODS, "Predictors", "who assessed subjective predictors"),
    Part("10", METHODS, "Sample size", "how it was arrived at, and whether it is enough"),
    Part("11", METHODS, "Missing data", "how they were handled, and why",
         remains="why data are missing"),
    Part("12a", METHODS, "Analysis", "how data were divided and used", "D"),
    Part("12b", METHODS, "Analysis", "handling of predictors: form, scaling, transformation", "D"),
    Part("12c", METHODS, "Analysis", "type of model, building, tuning, internal validation", "D",
         remains="why this type of model"),
    Part("12d", METHODS, "Analysis", "heterogeneity between clusters: how it was estimated"),
    Part("12e", METHODS, "Analysis", "measures and plots of performance, and comparisons"),
    Part("12f", METHODS, "Analysis", "updating of the model, as recalibration", "E"),
    Part("12g", METHODS, "Analysis", "how predictions were calculated when evaluating", "E"),
    Part("13", METHODS, "Class imbalance", "methods against it, why, and recalibration after"),
    Part("14", METHODS, "Fairness", "what was done about it, and why",
         remains="why these groups"),
    Part("15", METHODS, "Model output", "probabilities or classes; thresholds, and why", "D",
         remains="thresholds for use, and why"),
    Part("16", METHODS, "Training versus evaluation", "differences between the data of the two",
         remains="differences in setting and in how outcomes were assessed"),
    Part("17", METHODS, "Ethics", "approval, consent or waiver"),
    Part("18a", OPEN, "Funding", "sources, and the part of the funders"),
    Part("18b", OPEN, "Conflicts of interest", "of all authors"),
    Part("18c", OPEN, "Protocol", "where it is, or that there is none"),
    Part("18d", OPEN, "Registration", "register and number, or that it is not registered"),
    Part("18e", OPEN, "Data sharing", "where the data are, and on what terms"),
    Part("18f", OPEN, "Code sharing", "where the code of the analysis is",
         remains="where the recipe and the run may be had"),
    Part("19", INVOLVEMENT, "Involvement", "of patients and the public, or that there was none"),
    Part("20a", RESULTS, "Participants", "flow, numbers with and without the outcome, follow-up"),
    Part("20b", RESULTS, "Participants", "characteristics overall and by source, missing data"),
    Part("20c", RESULTS, "Participants", "evaluation data beside development data", "E"),
    Part("21", RESULTS, "Model development", "subjects and events in each analysis"),
    Part("22", RESULTS, "Model specification", "the full model, so that others can predict", "D",
         remains="where others may get the weights"),
    Part("23a", RESULTS, "Performance", "estimates with intervals, also for key groups"),
    Part("23b", RESULTS, "Performance", "heterogeneity of performance between clusters"),
    Part("24", RESULTS, "Model updating", "the updated model and its performance", "E"),
    Part("25", DISCUSSION, "Interpretation", "of the main results, with fairness and earlier work"),
    Part("26", DISCUSSION, "Limitations", "of the sample, its size, missing data, generalising"),
    Part("27a", DISCUSSION, "Usability", "what to do with poor or missing inputs in use", "D"),
    Part("27b", DISCUSSION, "Usability", "what users must do and know", "D"),
    Part("27c", DISCUSSION, "Usability", "next steps of research"),
)  # fmt: skip
